"""JSON shapes of callback listeners, named as the official SDK names them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, StrictStr


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore")


class FotaV1CallbackRegistrationRequest(_Shape):
    # The SDK's `username` and `password` are no longer valid since 2.9. They are not read at all,
    # so that nothing can repeat them.
    name: StrictStr
    url: StrictStr


class FotaV1CallbackRegistrationResult(_Shape):
    accountName: str
    serviceName: str


class RegisteredCallbacks(_Shape):
    aname: str
    name: str
    url: str


class CallbackRegistrationRequest(_Shape):
    """FotaV2CallbackRegistrationRequest, and v3's."""

    url: StrictStr


class CallbackRegistrationResult(_Shape):
    """FotaV2CallbackRegistrationResult, and v3's."""

    url: str


class CallbackSummary(_Shape):
    """CallbackSummary, and FotaV3CallbackSummary; without a listener it is empty."""

    url: str | None = None


class CallbackSuccess(_Shape):
    """FotaV1SuccessResult, FotaV2SuccessResult, FotaV3SuccessResult."""

    success: bool
