"""POST /api/generate: a prompt or a conversation in, an answer out, from whichever provider serves this caller.

DELETE /api/generate/{request_id} stops it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from uuid import UUID

import orjson
from starlette.responses import Response

from lib.app import current
from lib.control.parameters import Parameters
from lib.errors import FieldError, Forbidden, InvalidRequest, MethodNotAllowed, NotConfigured, NotFound
from lib.http.auth import Caller
from lib.http.endpoint import Call, Endpoint
from lib.http.generate_request import GenerateRequest, read_generate_request
from lib.http.generation import Form, Generation, wanted_form
from lib.http.media import MediaAnswer, media_for, needs_storage
from lib.http.money import open_account
from lib.http.once import ROUTE, once
from lib.router.affinity import conversation_of
from lib.router.attempt import Policy
from lib.router.plan import Choice
from lib.router.router import Context
from lib.settings import SUPABASE_VARIABLES
from lib.telemetry.events import Subject
from lib.telemetry.worst_case import worst_case_microusd


async def generate(call: Call) -> Response:
    """Answer as JSON, plain text or the AI SDK's UI message stream (see wanted_form)."""
    if "stop" in call.request.query_params:
        raise MethodNotAllowed("This path takes DELETE.", headers={"allow": "DELETE"})
    caller = await call.caller()
    content = call.json()
    body = read_generate_request(content)
    form = wanted_form(call.request.headers.get("accept"), stream=body.stream)
    if body.makes_media:
        needs_storage(call, form)
        caller = await call.with_account(caller)
    return await once(call, caller, content, form, partial(answered, call, caller, body, form))


async def answered(call: Call, caller: Caller, body: GenerateRequest, form: Form) -> Response:
    """The answer, once the money for it is held."""
    parameters = await call.app.parameters_for(caller, body.parameters())
    if not body.writes_text:
        return await media_alone(call, caller, body, form, parameters)
    request = body.chat()
    request = replace(
        request,
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        max_tokens=parameters.max_tokens,
        conversation=conversation_of(caller.id, body.id, request.messages),
    )
    context = context_of(call, body, caller, form, call.app.policy_for(parameters))
    account = open_account(call, caller, parameters)
    account.begin(worst_case_microusd(call.app.router.foreseen(context), request))
    # While the database counts.
    flag = await call.app.flags.provider(caller.id, caller.traits)
    context = await with_check(context, body)
    if context.choice != Choice():
        flag = flag.not_applied()
    call.headers.update((await account.reserved()).headers())
    media = media_for(call, caller, body, parameters, account, flag) if body.makes_media else None
    answer = call.app.router.get_completion(flag, request, context)
    await account.raise_to(worst_case_microusd(answer.plan, request))
    subject = Subject(
        request_id=call.id,
        caller_id=caller.id,
        caller_kind=caller.kind,
        route=ROUTE,
        flag=flag,
        prompt_characters=request.characters,
        metadata=body.metadata,
    )
    generation = Generation(
        answer,
        call.app.recorder,
        subject,
        call.arrived_at,
        account=account,
        stops=call.app.stops,
        message_id=body.continued_message_id,
        media=media,
    )
    return await generation.respond(form)


async def media_alone(
    call: Call, caller: Caller, body: GenerateRequest, form: Form, parameters: Parameters
) -> Response:
    """Pictures and speech for which nobody has to write: their money is held as each is bought."""
    account = open_account(call, caller, parameters)
    account.begin(0)
    flag = await call.app.flags.provider(caller.id, caller.traits)
    media = media_for(call, caller, body, parameters, account, flag)
    # While the database counts, what is kept is looked for; nothing is bought before it has.
    media.begin()
    try:
        call.headers.update((await account.reserved()).headers())
    except BaseException:
        await media.aclose()
        raise
    answer = MediaAnswer(media, call, caller.id, account, body.continued_message_id)
    return await answer.respond(form)


async def stop(call: Call) -> Response:
    """DELETE /api/generate/{request_id}: end one's own generation, whichever instance it runs on.

    202 `stopping`: its stream ends within a second or two, and what was used is accounted for. 200 `ended`: it had.
    """
    if "stop" not in call.request.query_params:
        raise MethodNotAllowed("This path takes POST.", headers={"allow": "POST"})
    caller = await call.app.auth.identify(call.request)
    request_id = call.request.url.path.rpartition("/")[2]
    found: str | None = None
    try:
        if str(UUID(request_id)) == request_id:
            found = "stopping" if call.app.stops.stop_here(request_id, caller.id) else None
            found = found or await call.app.stops.stop_elsewhere(request_id, caller.id)
    except ValueError:
        pass  # no id of ours
    if found is None and call.app.database is None:
        needed = ", ".join(SUPABASE_VARIABLES)
        raise NotConfigured(f"It does not run in this process, and others are reached by rows: set {needed}.")
    if found is None:
        raise NotFound("You have no generation of this id.")
    body = orjson.dumps({"id": request_id, "status": found})
    headers = {"cache-control": "no-store"}
    return Response(body, 200 if found == "ended" else 202, headers, media_type="application/json")


async def resume(call: Call) -> Response:
    """GET /api/generate/{chat}/stream, as useChat's `resume` asks it: there is never anything to resume."""
    if "resume" not in call.request.query_params:
        raise MethodNotAllowed("This path takes POST.", headers={"allow": "POST"})
    return Response(status_code=204)


def context_of(call: Call, body: GenerateRequest, caller: Caller, form: Form, usual: Policy) -> Context:
    """What the router has to know. Raises InvalidRequest for tools where the form has no calls."""
    if form == "text" and body.may_call_tools:
        message = "A call of a tool can't be told in plain text: ask for JSON or the UI message stream."
        raise InvalidRequest(message, errors=(FieldError("tools", "not in plain text"),))
    return Context(choice(body, caller), policy(usual, body, form), call.ends_at)


async def with_check(context: Context, body: GenerateRequest) -> Context:
    """With what checks the answer, where JSON was asked for. Raises InvalidRequest for a bad schema."""
    if body.response_format is None:
        return context
    return replace(context, check=await asyncio.to_thread(body.answer_check))


def choice(body: GenerateRequest, caller: Caller) -> Choice:
    """The provider and model that the caller asks for, where it may."""
    asked = Choice(*(None if value == "auto" else value for value in (body.provider, body.model)))
    if asked != Choice() and not caller.may_choose_model:
        wrong = FieldError("provider" if asked.provider else "model", "leave it out")
        raise Forbidden("Only callers with an API key and operators may choose.", errors=(wrong,))
    return asked


def policy(usual: Policy, body: GenerateRequest, form: Form) -> Policy:
    """What may be done about an answer that breaks off: where nothing has been sent yet, it simply begins anew."""
    return replace(
        usual,
        on_interrupt="restart" if form == "json" and body.on_interrupt == "continue" else body.on_interrupt,
        can_reset=form == "json" or (form == "ui" and body.ui_stream == "v7"),
        can_splice=body.response_format is None,
        checks=body.response_format is not None,
        repairs=1 if form == "json" else 0,
    )


app = Endpoint(current, POST=generate, GET=resume, DELETE=stop)
