"""What a request may cost at most, held before anything is paid."""

from __future__ import annotations

from lib.control.parameters import Parameters
from lib.data.limits import Account, Subject
from lib.http.auth import Caller
from lib.http.endpoint import Call

MICRO = 1_000_000


def open_account(call: Call, caller: Caller, parameters: Parameters) -> Account:
    """The request's account; it is settled once the answer is out, however that ended."""
    budget = parameters.budget_usd_per_day
    subject = Subject(caller.kind, caller.id, None if budget is None else round(budget * MICRO))
    account = Account(call.app.limits, call.id, subject)
    call.afterwards.append(account.settle)
    return account
