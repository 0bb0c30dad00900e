"""The base of the models: how an answer of the service becomes an object."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


def _wire_name(name: str) -> str:
    # `from` is a word of Python's, so that field has a `_` at its end.
    return to_camel(name.removesuffix("_"))


class Model(BaseModel):
    """A part of an answer; it cannot be changed.

    Fields that this version does not know are ignored: a later service may send more.
    """

    model_config = ConfigDict(
        alias_generator=_wire_name,
        # By name as well, so that an application's tests can make answers of their own.
        validate_by_name=True,
        frozen=True,
        extra="ignore",
        # An answer may have a token, and a traceback ends in a log.
        hide_input_in_errors=True,
    )


class SnakeModel(Model):
    """An answer in LiveKit's own form, whose fields are in snake_case."""

    model_config = ConfigDict(alias_generator=None)
