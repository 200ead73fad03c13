"""What the modelled server answers when it refuses: hawkBit's own ExceptionInfo, word for word."""

from __future__ import annotations

from typing import Any

REPOSITORY = "org.eclipse.hawkbit.repository.exception."
REST = "org.eclipse.hawkbit.rest.exception."


class Refused(Exception):
    """A request that hawkBit refuses with a JSON body (`exceptionClass`, `errorCode`, ...)."""

    def __init__(
        self,
        status: int,
        exception_class: str,
        code: str,
        message: str,
        info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "exceptionClass": exception_class,
            "errorCode": f"hawkbit.server.error.{code}",
            "message": message,
        }
        if info is not None:
            self.body["info"] = info


class Plain(Exception):
    """A refusal without any body: security (401) and the bare answers of some resources."""

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(str(status))
        self.status = status
        self.headers = headers


class Framework(Exception):
    """What Spring answers before any resource is reached: `timestamp`, `status`, `error`."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


def not_found(kind: str, identifier: str | int) -> Refused:
    return Refused(
        404,
        REPOSITORY + "EntityNotFoundException",
        "repo.entityNotFound",
        f"{kind} with given identifier {{{identifier}}} does not exist.",
        {"type": kind, "entityId": identifier},
    )


def foreign_action(action: int, controller_id: str) -> Refused:
    return Refused(
        404,
        REPOSITORY + "EntityNotFoundException",
        "repo.entityNotFound",
        f"Not a valid action ({action}) for target: {controller_id}",
    )


def unreadable() -> Refused:
    """A body that does not parse, or that misses or misspells what the resource needs."""
    return Refused(
        400,
        REST + "MessageNotReadableException",
        "rest.body.notReadable",
        "The given request body is not well formed",
    )


def invalid(message: str) -> Refused:
    return Refused(
        400,
        "jakarta.validation.ConstraintViolationException",
        "repo.constraintViolation",
        message,
    )


def exists(kind: str, name: str) -> Refused:
    # The misspelt code is hawkBit's own.
    return Refused(
        409,
        REPOSITORY + "EntityAlreadyExistsException",
        "repo.entitiyAlreayExists",
        f"{kind} {name} already exists in the database",
    )


def locked(kind: str, identifier: int) -> Refused:
    return Refused(
        423,
        REPOSITORY + "LockedException",
        "entityLocked",
        f"{kind} {identifier} is locked and cannot be modified",
    )


def quota(kind: str, parent: str, limit: int) -> Refused:
    return Refused(
        429,
        REPOSITORY + "AssignmentQuotaExceededException",
        "quota.tooManyEntries",
        f"Quota exceeded: Cannot assign more {kind} entities to {parent}. The limit is {limit}.",
    )


def cancel_not_allowed(message: str) -> Refused:
    return Refused(
        405,
        REPOSITORY + "CancelActionNotAllowedException",
        "action.notcancelable",
        message,
    )


def force_quit_not_allowed(message: str) -> Refused:
    return Refused(
        405,
        REPOSITORY + "ForceQuitActionNotAllowedException",
        "action.notForceQuitable",
        message,
    )
