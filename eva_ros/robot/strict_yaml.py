"""Read a YAML file that nobody can misread: no code, no key twice, no unknown key."""

from pathlib import Path
from typing import Any
from typing import TypeVar

from pydantic import BaseModel
from pydantic import ConfigDict
from pydantic import ValidationError
import yaml

from eva_ros.errors import UserError


class StrictModel(BaseModel):
    """Base of what stands in a configuration file: an unknown key is an error."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


ModelT = TypeVar('ModelT', bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that stands twice in one map."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == 'tag:yaml.org,2002:merge':
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise UserError(f'"{key}" is named twice (line {line}): remove one of them.')
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the map that a YAML file holds.

    Raises:
        UserError: no such file, not YAML, not a map, or a key that stands twice.
    """
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), Loader=_Loader)
    except UserError as error:
        raise UserError(f'{path}: {error}') from None
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise UserError(f'{path} is not valid YAML: {" ".join(str(error).split())}.') from None
    if not isinstance(content, dict):
        raise UserError(f'{path} must hold a map of keys and values.')
    return content


def parse(model: type[ModelT], content: Any, path: Path) -> ModelT:
    """Return the content of a file as a checked model.

    Raises:
        UserError: an unknown, missing or wrong key, named with the file.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f'{path}: {first_problem(error)}.') from None


def first_problem(error: ValidationError) -> str:
    """Return pydantic's first complaint as the key's path and what is wrong with it."""
    problem = error.errors(include_url=False)[0]
    key = '.'.join(str(part) for part in problem['loc'])
    if problem['type'] == 'extra_forbidden':
        return f'unknown key "{key}"'
    if problem['type'] == 'missing':
        return f'key "{key}" is missing'
    message = problem['msg'].removeprefix('Value error, ').rstrip('.')
    if problem['type'].endswith('_type'):
        message += f', not {_named(problem["input"])}'
    return f'{key}: {message}' if key else message


def _named(value: Any) -> str:
    """Return what stands in the file in place of what should."""
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, (dict, list)):
        return 'a map' if isinstance(value, dict) else 'a list'
    if isinstance(value, bool):
        return 'true' if value else 'false'
    return 'nothing' if value is None else str(value)


def load(model: type[ModelT], path: Path) -> ModelT:
    """Return the checked model that a YAML file holds; UserError names file and key."""
    return parse(model, read_yaml(path), path)
