"""What the models of the file's sections are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Field(pattern=r"^[\t -~]*$")]


class Section(BaseModel):
    """A mapping of the file: unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic would read true as 1: "timeout: true" is a mistake, not a second.
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation in {int, float, float | None}:
            kind = "whole number" if field.annotation is int else "number"
            raise ValueError(f"expected a {kind}, got {str(value).lower()}")
        return value
