"""Mutants of a rollout: of what rows record about the settings, and of the wave that follows from it."""

from dataclasses import replace
from typing import Any

from chalicelib.accounts import Account, LedgerRow
from chalicelib.aws.ledger import Ledger
from chalicelib.reconciler import Reconciler
from chalicelib.rollout import Rollout
from tests.integration.simulation.mutants import mutates


@mutates(Ledger, "write", "each sweep changes a wave", "settings changed in waves")
def fingerprint_is_not_recorded(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    return original(self, replace(row, fingerprint=None), over=over)


@mutates(Ledger, "write", "a broken change stops after one wave", "broken change in waves")
def failed_change_is_not_recorded(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    return original(self, replace(row, attempted_fingerprint=None), over=over)


@mutates(Rollout, "wave", "a broken change stops after one wave", "broken change in waves")
def failure_does_not_stop_a_rollout(original: Any, self: Rollout) -> list[Account]:
    self.failed.clear()
    wave: list[Account] = original(self)
    return wave


@mutates(Reconciler, "__call__", "a sweep changes one wave at most", "settings changed in waves")
def nothing_waits(original: Any, self: Reconciler, *args: Any, **more: Any) -> Any:
    return original(self, *args, **more | {"awaits_wave": False})
