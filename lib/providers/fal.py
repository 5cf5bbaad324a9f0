"""Pictures from whoever speaks fal's queue protocol, through fal's SDK.

A request is submitted, looked at every half second, and its pictures are fetched from where the result says they lie.
fal bills what was submitted, so a request is submitted once: the SDK, which would send a POST again up to nine times,
sends by way of `_Wire`, whose errors it does not know and therefore does not retry. Where the answer to a submission is
lost, nobody knows whether there is a request, and it fails. Where an answer to a look is lost, we look again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import orjson

from lib.errors import (
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    Overloaded,
    ProviderError,
    RateLimited,
    TimedOut,
    Unconfirmed,
)
from lib.providers.catalog import ImageRow
from lib.providers.chat import error_for
from lib.providers.images import Drawn, ImageModel, ImageRequest, Picture, read_picture
from lib.providers.transport import Loaded, lost, never_sent, whole

if TYPE_CHECKING:
    import httpx

Result = TypeVar("Result")
MAX_PICTURE_BYTES = 32 * 1024 * 1024
"""A PNG of four megapixels has twelve before it is compressed."""
MAX_ANSWER_BYTES = 1024 * 1024
OK = 200
ANSWERED = range(200, 300)
FAILED = 400
LOOKS = 3
"""How often in a row a look may fail before the request counts as lost."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds: for each kind of call, for all until the pictures are here, and between two looks."""

    submit_s: float = 15.0
    look_s: float = 10.0
    download_s: float = 30.0
    cancel_s: float = 3.0
    total_s: float = 120.0
    interval_s: float = 0.5


class Fal:
    """One vendor through fal's SDK: imported on first use and in a thread."""

    def __init__(
        self,
        row: ImageRow,
        *,
        api_key: str | None,
        base_url: str,
        http: Callable[[], httpx.AsyncClient],
        deadlines: Deadlines | None = None,
    ) -> None:
        """`http` makes or returns the process's one HTTP client; it is called in a thread."""
        self.name = row.name
        self._row = row
        self._api_key = api_key
        self._base_url = base_url
        self._http = http
        self._deadlines = deadlines or Deadlines()
        self._client: Loaded[Any] = Loaded(self._load)

    async def draw(
        self,
        request: ImageRequest,
        model: ImageModel,
        *,
        submitted: Callable[[str], None] = lambda _: None,
        request_id: str | None = None,
    ) -> Drawn:
        """See ImageProvider.draw."""
        client = await self._client.get()
        try:
            async with asyncio.timeout(self._deadlines.total_s):
                if request_id is None:
                    request_id = await self._submit(client, request, model)
                    submitted(request_id)
                return await self._collect(client, model, request_id)
        except TimeoutError as late:
            await self._withdraw(client, model, request_id)
            raise TimedOut from late
        except asyncio.CancelledError:
            await self._withdraw(client, model, request_id)
            raise

    async def _submit(self, client: Any, request: ImageRequest, model: ImageModel) -> str:
        """The id of a new request. A caller who leaves meanwhile is let go when there is an id to withdraw."""
        work = asyncio.ensure_future(
            self._call(self._deadlines.submit_s, client.submit(model.id, _body(request, model)))
        )
        try:
            return _checked_id((await asyncio.shield(work)).request_id)
        except BrokenStream as lost_answer:
            raise Unconfirmed(status=lost_answer.status) from lost_answer
        except asyncio.CancelledError:
            with contextlib.suppress(ProviderError):
                await self._withdraw(client, model, _checked_id((await work).request_id))
            raise

    async def _collect(self, client: Any, model: ImageModel, request_id: str) -> Drawn:
        handle = await client.get_handle(model.id, _checked_id(request_id))
        completed = importlib.import_module("fal_client").Completed
        while not isinstance(await self._look(handle.status), completed):  # noqa: ASYNC110 - fal knows, not we
            await asyncio.sleep(self._deadlines.interval_s)
        answer = await self._look(lambda: client.fetch(handle.response_url))
        links, seed = _links(answer)
        for link in links:
            self._check_place(link)  # once: looked at again, it would still be the same
        pictures = [
            await self._look(lambda link=link: self._download(link), self._deadlines.download_s) for link in links
        ]
        return Drawn(tuple(pictures), request_id, seed)

    async def _look(self, look: Callable[[], Awaitable[Result]], deadline_s: float | None = None) -> Result:
        """What reading gives; it costs nothing, so that a lost answer is asked for again."""
        for left in reversed(range(LOOKS)):
            try:
                return await self._call(deadline_s or self._deadlines.look_s, look())
            except (ConnectionFailed, Overloaded, TimedOut, BrokenStream):
                if not left:
                    raise
                await asyncio.sleep(self._deadlines.interval_s)
        raise AssertionError

    async def _call(self, deadline_s: float, work: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError as late:
            raise TimedOut from late
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BrokenStream from error  # the SDK found another answer than fal's

    async def _withdraw(self, client: Any, model: ImageModel, request_id: str | None) -> None:
        """Tell the vendor that nobody waits any more. One that is being drawn is drawn, and billed, all the same."""
        if request_id is None:
            return
        with contextlib.suppress(ProviderError):
            await self._call(self._deadlines.cancel_s, client.cancel(model.id, request_id))

    async def _download(self, url: str) -> Picture:
        picture = read_picture(await _fetch(self._http(), url))
        if picture is None:
            raise BrokenStream
        return picture

    def _check_place(self, url: str) -> None:
        """Raises BrokenStream unless the vendor's own hosts are named: what answers us must not send us anywhere."""
        try:
            parts, base = urlsplit(url), urlsplit(self._base_url)
            own = (parts.scheme, parts.hostname, parts.port) == (base.scheme, base.hostname, base.port)
            host, port = parts.hostname or "", parts.port
        except (ValueError, AttributeError, TypeError) as error:
            raise BrokenStream from error
        known = any(host == name or host.endswith(f".{name}") for name in self._row.hosts)
        if "@" in parts.netloc or not (own or (known and parts.scheme == "https" and port is None)):
            raise BrokenStream

    def _load(self) -> Any:
        return _client_over(self._http(), self._base_url, self._api_key, keep_alive=self._row.keep_alive)


def _body(request: ImageRequest, model: ImageModel) -> dict[str, object]:
    size = request.size
    return {
        "prompt": request.prompt,
        "image_size": size if isinstance(size, str) else {"width": size[0], "height": size[1]},
        "num_images": request.count,
        "output_format": request.format,
        "enable_safety_checker": True,
        **dict(model.arguments),
        **({} if request.seed is None else {"seed": request.seed}),
    }


def _checked_id(request_id: Any) -> str:
    """An id that may become part of a URL."""
    if not isinstance(request_id, str) or _REQUEST_ID.fullmatch(request_id) is None:
        raise BrokenStream
    return request_id


def _links(answer: Any) -> tuple[list[str], int | None]:
    """Where the pictures lie, and their seed. Raises ContentRefused where one was judged unsafe: it is blacked out."""
    try:
        links = [image["url"] for image in answer["images"]]
        flags = answer.get("has_nsfw_concepts") or ()
        unsafe = any(flags)
        seed = answer.get("seed")
    except (LookupError, TypeError, AttributeError) as error:
        raise BrokenStream from error
    if unsafe:
        raise ContentRefused
    if not links:
        raise BrokenStream
    return links, seed if isinstance(seed, int) else None


async def _fetch(http: Any, url: str) -> bytes:
    """The body of a file, whose address tells nobody who asks: no key goes with it, and no redirect is followed."""
    begun = False
    try:
        async with http.stream("GET", url) as response:
            begun = True
            status: int = response.status_code
            body = await whole(response.aiter_bytes(), MAX_PICTURE_BYTES) if status == OK else b""
            headers = response.headers
    except ProviderError:
        raise
    except Exception as error:
        raise lost(error, begun=begun) or error from error
    if status != OK:
        verdict = _verdict(status, b"", headers)
        # What is wrong with one file's address says nothing of the key, the model or the request.
        raise verdict if isinstance(verdict, Overloaded | RateLimited) else BrokenStream(status=status)
    return body


def _client_over(http: Any, base_url: str, api_key: str | None, *, keep_alive: bool) -> Any:
    """A client of fal's over our connections; its classes can't be named before the SDK is imported."""
    httpx: Any = importlib.import_module("httpx")
    fal_client: Any = importlib.import_module("fal_client")

    class Wire(httpx.AsyncBaseTransport):
        """Sends to the base URL, whatever host the SDK thinks of, and turns every failure into a ProviderError.

        The SDK retries its own errors and httpx's, ten times; ours it lets pass.
        """

        async def handle_async_request(self, request: Any) -> Any:
            begun = False
            try:
                sent = http.build_request(
                    request.method,
                    base_url + request.url.raw_path.decode(),
                    headers=_headers(request, keep_alive=keep_alive),
                    content=await request.aread(),
                )
                response = await http.send(sent, stream=True)
                begun = True
                try:
                    body = await whole(response.aiter_bytes(), MAX_ANSWER_BYTES)
                finally:
                    await response.aclose()
            except ProviderError:
                raise
            except Exception as error:
                # A submission that was sent may have been taken, though nobody said so: that is no failed connection.
                begun = begun or (request.method == "POST" and not never_sent(error))
                raise lost(error, begun=begun) or error from error
            if response.status_code not in ANSWERED:
                raise _verdict(response.status_code, body, response.headers)
            return httpx.Response(response.status_code, headers=dict(response.headers), content=body)

    class Client(fal_client.AsyncClient):
        """The SDK's client, sending by Wire. It has no argument for that."""

        _wired = httpx.AsyncClient(transport=Wire(), headers={"authorization": f"Key {api_key or 'none'}"})

        @property
        async def _client(self) -> Any:
            return self._wired

        async def fetch(self, url: str) -> Any:
            """A finished request's result; the SDK's own way would look at its status once more."""
            return orjson.loads((await self._wired.get(url)).content)

    return Client(key=api_key or "none")


def _headers(request: Any, *, keep_alive: bool) -> dict[str, str]:
    kept = {name: request.headers[name] for name in ("authorization", "content-type") if name in request.headers}
    return kept if keep_alive else {**kept, "connection": "close"}


def _verdict(status: int, body: bytes, headers: Any) -> ProviderError:
    """What an error of fal's means, by its status and type (https://docs.fal.ai/errors), never by its message."""
    if "content_policy_violation" in _kinds(body):
        return ContentRefused(status=status)
    # A redirect is no answer either: what answers us must not send us anywhere.
    return error_for(status, None, headers, time.time()) if status >= FAILED else BrokenStream(status=status)


def _kinds(body: bytes) -> Iterator[Any]:
    with contextlib.suppress(ValueError, AttributeError, LookupError, TypeError):
        told: Any = orjson.loads(body)
        yield told.get("error_type")
        yield from (item["type"] for item in told["detail"])
