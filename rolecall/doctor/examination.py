"""Every check, run one after the other, whatever becomes of those before it."""

import re
from collections.abc import Iterator
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError

from rolecall.aws_errors import DENIED
from rolecall.doctor import access, deployed, place, readers, running, trail
from rolecall.doctor.finding import Check, Finding, Verdict, cant_tell, wrong
from rolecall.doctor.patient import Patient
from rolecall.errors import CommandError, DeniedError, WrongSettingsError

CHECKS: tuple[Check, ...] = (
    *place.CHECKS,
    *trail.CHECKS,
    *deployed.CHECKS,
    *readers.CHECKS,
    *access.CHECKS,
    *running.CHECKS,
)

_PERMISSION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")


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
    except WrongSettingsError as error:
        return wrong(str(error), patient.deploy("…"))
    except ClientError as error:
        told = error.response["Error"]
        code, answered = told.get("Code", ""), f"{told.get('Code', '')}: {told.get('Message', '')}"
        return kept_out(check, answered, error.operation_name) if code in DENIED else unseen(answered)
    except DeniedError as error:
        return kept_out(check, str(error))
    except (CommandError, BotoCoreError) as error:
        return unseen(str(error))


def unseen(answered: str) -> Finding:
    """Say that a check could not look."""
    return cant_tell(answered, "rolecall doctor, again")


def kept_out(check: Check, answered: str, operation: str = "") -> Finding:
    """Say that a check may not look, and by which permission it could."""
    named = _PERMISSION.search(answered)
    needed = [named[1]] if named else [each for each in check.permissions if each.endswith(f":{operation}")]
    return cant_tell(answered, f"allow these credentials {', '.join(needed or check.permissions)}")
