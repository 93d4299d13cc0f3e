"""Amazon's codes for what goes wrong: the one place that knows them.

Three families: EC2's own; those of the query and JSON services; and the exceptions that
the REST services' models name.  A message is Amazon's where a client may look for it, and
otherwise ebsim's own sentence.
"""

from collections.abc import Callable, Mapping, Sequence

from ebsim import errors
from ebsim.api.faults import ApiError, Malformed, RequestInvalid, UnknownMember, Violation
from ebsim.api.service_models import Service, Wire
from ebsim.catalog.client_tokens import ClientTokenReused
from ebsim.engine import kms_keys
from ebsim.engine.direct import refusals

Translation = Callable[[errors.EbsimError], ApiError]


def _ec2(code: str, status: int = 400) -> Translation:
    return lambda error: ApiError(code, str(error), status=status)


def _missing_snapshot(error: errors.EbsimError) -> ApiError:
    assert isinstance(error, errors.SnapshotNotFound), "filed under it"
    return ApiError(
        "InvalidSnapshot.NotFound", f"The snapshot '{error.snapshot_id}' does not exist."
    )


def _missing_volume(error: errors.EbsimError) -> ApiError:
    assert isinstance(error, errors.VolumeNotFound), "filed under it"
    return ApiError("InvalidVolume.NotFound", f"The volume '{error.volume_id}' does not exist.")


def _missing_instance(error: errors.EbsimError) -> ApiError:
    assert isinstance(error, errors.InstanceNotFound), "filed under it"
    return ApiError("InvalidInstanceID.NotFound", f"The instance ID '{error.name}' does not exist")


def _token_reused(error: errors.EbsimError) -> ApiError:
    del error
    return ApiError(
        "IdempotentParameterMismatch",
        "Arguments on this idempotent request are inconsistent with arguments used in previous "
        "request(s).",
    )


def _rest(code: str, status: int, reason: str = "") -> Translation:
    fields = {"Reason": reason} if reason else {}
    return lambda error: ApiError(code, str(error), status=status, fields=fields)


def _ebs(reason: str) -> Translation:
    return _rest("ValidationException", 400, reason)


def _rest_missing_snapshot(error: errors.EbsimError) -> ApiError:
    assert isinstance(error, errors.SnapshotNotFound), "filed under it"
    return ApiError(
        "ResourceNotFoundException",
        f"The snapshot '{error.snapshot_id}' does not exist.",
        status=404,
        fields={"Reason": "SNAPSHOT_NOT_FOUND"},
    )


def _missing_rule(error: errors.EbsimError) -> ApiError:
    assert isinstance(error, errors.RuleNotFound), "filed under it"
    return ApiError(
        "ResourceNotFoundException",
        f"Rule '{error.rule_id}' does not exist.",
        status=404,
        fields={"Reason": "RULE_NOT_FOUND"},
    )


_EC2_CODES: Mapping[type[errors.EbsimError], Translation] = {
    errors.SnapshotNotFound: _missing_snapshot,
    errors.VolumeNotFound: _missing_volume,
    errors.InstanceNotFound: _missing_instance,
    kms_keys.KeyNotFound: _ec2("InvalidKmsKey.NotFound"),
    kms_keys.KeyOfOthers: _ec2("InvalidKmsKey.NotFound"),
    kms_keys.KeyArnMalformed: _ec2("InvalidKmsKey.NotFound"),
    errors.NotFound: _ec2("InvalidParameterValue"),
    errors.VolumeInUse: _ec2("VolumeInUse"),
    ClientTokenReused: _token_reused,
    errors.ModificationRateExceeded: _ec2("VolumeModificationRateExceeded"),
    errors.SnapshotLocked: _ec2("SnapshotLocked"),
    errors.PublicSharingBlocked: _ec2("OperationNotPermitted"),
    errors.NotPermitted: _ec2("UnauthorizedOperation", 403),
    errors.InvalidGrantee: _ec2("InvalidAMIAttributeItemValue"),
    errors.Conflict: _ec2("IncorrectState"),
    errors.UnsupportedParameter: _ec2("UnsupportedParameter"),
    errors.InvalidRequest: _ec2("InvalidParameterValue"),
    errors.SourceUnusable: _ec2("IncorrectState"),
    errors.TargetUnusable: _ec2("IncorrectState"),
    errors.MissingTool: _ec2("UnsupportedOperation"),
    errors.UnsupportedFormat: _ec2("UnsupportedOperation"),
    errors.StorageUnavailable: _ec2("Unavailable", 503),
    errors.EbsimError: _ec2("InternalError", 500),
}

_REST_CODES: Mapping[type[errors.EbsimError], Translation] = {
    errors.SnapshotNotFound: _rest_missing_snapshot,
    refusals.BlockRefused: _ebs("INVALID_BLOCK"),
    refusals.BlockTokenInvalid: _ebs("INVALID_BLOCK_TOKEN"),
    refusals.PageTokenInvalid: _ebs("INVALID_PAGE_TOKEN"),
    refusals.SnapshotUnusable: _ebs("INVALID_SNAPSHOT_ID"),
    refusals.SnapshotAlreadyCompleted: _ebs("INVALID_SNAPSHOT_ID"),
    refusals.ParentPending: _ebs("INVALID_SNAPSHOT_ID"),
    refusals.UnrelatedSnapshots: _ebs("UNRELATED_SNAPSHOTS"),
    refusals.VolumeSizeRefused: _ebs("INVALID_VOLUME_SIZE"),
    errors.NotFound: _rest("ResourceNotFoundException", 404),
    errors.Conflict: _rest("ConflictException", 409),
    errors.UnsupportedParameter: _rest("ValidationException", 400, "INVALID_PARAMETER_VALUE"),
    errors.InvalidRequest: _rest("ValidationException", 400, "INVALID_PARAMETER_VALUE"),
    errors.StorageUnavailable: _rest("ServiceUnavailableException", 503),
    errors.EbsimError: _rest("InternalServerException", 500),
}
"""What the EBS direct APIs say.  The other services with JSON differ, see ``_translations``."""

_JSON_CODES = {
    **_REST_CODES,
    errors.UnsupportedParameter: _rest("ValidationException", 400),
    errors.InvalidRequest: _rest("ValidationException", 400),
}
_RBIN_CODES = {
    **_REST_CODES,
    errors.RuleNotFound: _missing_rule,
    errors.RuleLocked: _rest("ConflictException", 409, "INVALID_RULE_STATE"),
    errors.QuotaExceeded: _rest("ServiceQuotaExceededException", 402, "SERVICE_QUOTA_EXCEEDED"),
}
_KMS_CODES = {
    **_JSON_CODES,
    errors.NotFound: _rest("NotFoundException", 400),
    errors.UnsupportedParameter: _rest("UnsupportedOperationException", 400),
    errors.QuotaExceeded: _rest("LimitExceededException", 400),
    errors.EbsimError: _rest("KMSInternalException", 500),
    kms_keys.KeyOfOthers: _rest("AccessDeniedException", 400),
    kms_keys.KeyArnMalformed: _rest("InvalidArnException", 400),
    kms_keys.AliasIncomplete: _rest("InvalidAliasNameException", 400),
    kms_keys.AliasReserved: _rest("NotAuthorizedException", 400),
    kms_keys.AliasExists: _rest("AlreadyExistsException", 400),
}
_DLM_CODES = {
    **_JSON_CODES,
    errors.UnsupportedParameter: _rest("InvalidRequestException", 400),
    errors.QuotaExceeded: _rest("LimitExceededException", 429),
    errors.InvalidRequest: _rest("InvalidRequestException", 400),
}


def api_error_of(service: Service, error: errors.EbsimError) -> ApiError:
    """What a client of *service* is told of *error*: the nearest class that has a code."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestInvalid):
        return _of_violations(service, error.violations)
    if isinstance(error, UnknownMember):
        return ApiError("UnknownParameter", f"The parameter {error.path} is not recognized")
    if isinstance(error, Malformed):
        code = "MalformedQueryString" if _has_forms(service) else "SerializationException"
        return ApiError(code, f"The request cannot be read: {error}.")
    codes = _translations(service)
    kind = next(kind for kind in type(error).__mro__ if kind in codes)
    return codes[kind](error)


def _translations(service: Service) -> Mapping[type[errors.EbsimError], Translation]:
    if _has_forms(service):
        return _EC2_CODES
    return {"kms": _KMS_CODES, "dlm": _DLM_CODES, "ebs": _REST_CODES, "rbin": _RBIN_CODES}.get(
        service.name, _JSON_CODES
    )


def _has_forms(service: Service) -> bool:
    return service.wire in {Wire.EC2, Wire.QUERY}


def _of_violations(service: Service, violations: Sequence[Violation]) -> ApiError:
    if service.wire is Wire.EC2:
        return _of_ec2_violation(violations[0])
    told = "; ".join(
        f"Value {'null' if v.shown is None else _quoted(v.shown)} at '{v.path}' failed to satisfy "
        f"constraint: {v.constraint}"
        for v in violations
    )
    count = len(violations)
    message = f"{count} validation error{'s' if count > 1 else ''} detected: {told}"
    code = "ValidationError" if service.wire is Wire.QUERY else "ValidationException"
    return ApiError(code, message)


def _quoted(shown: str) -> str:
    return f"'{shown}'"


def _of_ec2_violation(violation: Violation) -> ApiError:
    name = violation.path
    if violation.shown is None:
        return ApiError("MissingParameter", f"The request must contain the parameter {name}")
    if name.startswith("createVolumePermission") and name.endswith("group"):
        return ApiError(
            "InvalidAMIAttributeItemValue",
            f'Invalid attribute item value "{violation.shown}" for userGroup item type.',
        )
    wanted = violation.constraint.removeprefix("Member must ").removeprefix("have ")
    return ApiError(
        "InvalidParameterValue",
        f"Value ({violation.shown}) for parameter {name} is invalid. Expected: {wanted}.",
    )


def unknown_action(service: Service, action: str) -> ApiError:
    """What is said to an action that is not served, known to Amazon or not."""
    if _has_forms(service):
        return ApiError("InvalidAction", f"The action {action} is not valid for this web service.")
    status = 404 if service.wire is Wire.REST_JSON else 400
    return ApiError("UnknownOperationException", f"{action} is not served here.", status=status)


def unsupported_parameter(service: Service, path: str) -> ApiError:
    """What is said to a parameter that the service has and ebsim does not support."""
    return api_error_of(
        service,
        errors.UnsupportedParameter(
            f"The parameter {path} is not supported by ebsim. Nothing was changed. Leave it out."
        ),
    )


def dry_run_succeeds() -> ApiError:
    """What EC2 answers to a request that it would have carried out."""
    return ApiError(
        "DryRunOperation",
        "Request would have succeeded, but DryRun flag is set.",
        status=412,
    )


def internal_error(service: Service) -> ApiError:
    """What is said when ebsim itself failed."""
    if _has_forms(service):
        return ApiError("InternalError", "An internal error has occurred", status=500)
    return ApiError("InternalServerException", "An internal error has occurred.", status=500)
