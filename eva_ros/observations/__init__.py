"""Messages to aligned images, joints and views: the same code live and from bags."""
