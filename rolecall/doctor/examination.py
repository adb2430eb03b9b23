"""Every check, run one after the other, whatever becomes of those before it."""

import re
from collections.abc import Iterator
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import SettingsError
from rolecall.doctor import access, deployed, place, readers, running, trail
from rolecall.doctor.finding import Check, Finding, Verdict, cant_tell, wrong
from rolecall.doctor.patient import Patient
from rolecall.errors import CommandError

CHECKS: tuple[Check, ...] = (
    *place.CHECKS,
    *trail.CHECKS,
    *deployed.CHECKS,
    *readers.CHECKS,
    *access.CHECKS,
    *running.CHECKS,
)

_PERMISSION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_DENIED = ("AccessDenied", "UnauthorizedOperation", "AuthorizationError")


def examine(patient: Patient) -> Iterator[tuple[Check, Finding]]:
    """Look at everything; a CommandError tells that there are no credentials to look with."""
    _ = patient.caller_arn
    look = partial(_looked, patient)
    there = True
    for check in CHECKS:
        if check.of_stage and not there:
            yield check, Finding(Verdict.CANT_TELL, f"stage {patient.stage.name} is not deployed")
            continue
        found = look(check)
        if check.name == "stage":
            there = "is not deployed" not in found.saw
        yield check, found


def _looked(patient: Patient, check: Check) -> Finding:
    try:
        return check.look(patient)
    except SettingsError as error:
        return wrong(str(error), patient.deploy("…"))
    except ClientError as error:
        told = error.response["Error"]
        return unseen(check, f"{told.get('Code', '')}: {told.get('Message', '')}", error.operation_name)
    except (CommandError, BotoCoreError) as error:
        return unseen(check, str(error))


def unseen(check: Check, answered: str, operation: str = "") -> Finding:
    """Say that a check could not look, and by which permission it could."""
    if not any(code in answered for code in _DENIED):
        return cant_tell(answered, "rolecall doctor, again")
    named = _PERMISSION.search(answered)
    needed = [named[1]] if named else [each for each in check.permissions if each.endswith(f":{operation}")]
    return Finding(Verdict.CANT_TELL, answered, f"allow these credentials {', '.join(needed or check.permissions)}")
