"""One file a node, thin: messages in, the core's functions, messages out."""
