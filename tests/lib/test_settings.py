"""The environment, checked: nothing in it stops the product, and no value of it is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lib.providers.catalog import ROWS, Row
from lib.settings import DEFAULT_FRESHNESS_S, MIN_SECRET_CHARACTERS, Settings, from_environ, variables

CANARY = "cAnArY"
SECRET = f"{CANARY}-0123456789-abcdef"
ALL_VARIABLES = variables()
NAMES = {variable.name for variable in ALL_VARIABLES}
SECRET_NAMES = {variable.name for variable in ALL_VARIABLES if variable.kind in {"secret", "connection"}}
CONNECTION = f"https://edge-config.vercel.com/ecfg_x?token={SECRET}"
each_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def environment_of(row: Row) -> dict[str, str]:
    """The fewest variables that turn this row on."""
    name = row.key_var or row.base_url_var
    return {name: SECRET if row.key_var else "http://127.0.0.1:9/v1"}


def on(settings: Settings) -> dict[str, bool]:
    """Each part, and whether it is on."""
    return {part.name: part.on for part in settings.parts}


def test_empty_environment() -> None:
    """Without any variable everything is off, nothing is wrong, and each part says what it lacks."""
    settings = from_environ({})
    assert (settings.vendors, settings.malformed, settings.exposed, settings.api_keys) == ({}, {}, (), ())
    assert (settings.allow_anonymous, settings.session_secret, settings.provider_flag) == (False, None, None)
    assert not any(on(settings).values())
    assert all(set(part.needs) <= NAMES and part.needs for part in settings.parts)


def test_what_a_part_needs_turns_it_on() -> None:
    """The variables that a part says it lacks are those that turn it on."""
    values = {
        **{variable.name: SECRET for variable in ALL_VARIABLES if variable.kind in {"secret", "public"}},
        **{variable.name: "http://127.0.0.1:9" for variable in ALL_VARIABLES if variable.kind == "url"},
        **{variable.name: CONNECTION for variable in ALL_VARIABLES if variable.kind == "connection"},
        "API_KEYS": f"web:user:{SECRET}",
        "ALLOW_ANONYMOUS": "1",
        "GITHUB_REPOSITORY": "acme/web",
    }
    for part in from_environ({}).parts:
        settings = from_environ({name: values[name] for name in part.needs})
        same = [other.name for other in settings.parts if other.needs == part.needs]
        assert [name for name, is_on in on(settings).items() if is_on] == same
        for other in part.or_one_of:
            assert on(from_environ({other: values[other]})) == {**on(from_environ({})), part.name: True}


def test_embeddings_need_their_vendor_or_the_embedded_model() -> None:
    """Whoever has no vendor's key learns what the embedded one takes."""
    (part,) = (part for part in from_environ({}).parts if part.name == "embeddings")
    assert (part.needs, part.or_one_of) == (("DEEPINFRA_API_KEY",), ("LOCAL_EMBEDDINGS_BASE_URL",))


@each_row
def test_row_on(row: Row) -> None:
    """A vendor is on with its own variable alone, at its own address, and it alone."""
    settings = from_environ(environment_of(row))
    assert list(settings.vendors) == [row.name]
    assert on(settings)[row.name]
    access = settings.vendors[row.name]
    assert access.api_key == (SECRET if row.key_var else None)
    assert access.base_url == (row.base_url or "http://127.0.0.1:9/v1")


@each_row
@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_blank_is_unset(row: Row, blank: str) -> None:
    """A variable that is set to nothing, as dashboards leave them behind, is unset."""
    settings = from_environ(dict.fromkeys(environment_of(row), blank))
    assert (settings.vendors, settings.malformed) == ({}, {})


@each_row
def test_row_at_another_address(row: Row) -> None:
    """A vendor's address can be another one; a slash at its end, and space around a value, do not matter."""
    environ = {name: f" {value}\n" for name, value in environment_of(row).items()}
    settings = from_environ({**environ, row.base_url_var: " https://proxy.example:8443/v1/ "})
    assert settings.vendors[row.name].base_url == "https://proxy.example:8443/v1"
    assert settings.malformed == {}


@pytest.mark.parametrize("row", [row for row in ROWS if row.key_var], ids=[row.name for row in ROWS if row.key_var])
def test_address_without_a_key(row: Row) -> None:
    """An address alone turns no vendor on that wants a key."""
    settings = from_environ({row.base_url_var: "https://proxy.example"})
    assert (settings.vendors, on(settings)[row.name]) == ({}, False)


BAD_URLS = [
    "api.example.com",
    "ftp://x.example",
    "//x.example",
    "https://",
    "https://:443",
    "https:///v1",
    "https://user:password@x.example",
    "https://token@x.example",
    "https://x.example:99999",
    "https://x.example:port",
    "https://[::1",
    "https://x.example/a b",
    "https://exämple.com",
    "javascript:alert(1)",
]


@each_row
@pytest.mark.parametrize("url", BAD_URLS)
def test_malformed_address(row: Row, url: str) -> None:
    """An address that is none turns the vendor off and is named: the key must not go somewhere else."""
    settings = from_environ({**environment_of(row), row.base_url_var: url})
    assert (settings.vendors, list(settings.malformed)) == ({}, [row.base_url_var])


@pytest.mark.parametrize("row", [row for row in ROWS if row.key_var], ids=[row.name for row in ROWS if row.key_var])
@pytest.mark.parametrize("key", ["two words", "tab\tbed", "schlüssel", "line\nbreak", "a\u00a0b", "\x7f", "\udcff"])
def test_malformed_key(row: Row, key: str) -> None:
    """A key that no header can carry turns its vendor off and is named."""
    settings = from_environ({row.key_var or "": key})
    assert (settings.vendors, list(settings.malformed)) == ({}, [row.key_var])


def test_every_malformed_variable_is_named() -> None:
    """All that is malformed is said at once, also where one mistake already turns the vendor off."""
    settings = from_environ({"GROQ_API_KEY": "two words", "GROQ_BASE_URL": "nowhere", "XAI_API_KEY": "two words"})
    assert set(settings.malformed) == {"GROQ_API_KEY", "GROQ_BASE_URL", "XAI_API_KEY"}


def test_shortest_secrets() -> None:
    """A secret of just the length that it must have is long enough."""
    shortest = "x" * MIN_SECRET_CHARACTERS
    settings = from_environ({"API_KEYS": f"web:user:{shortest}", "SESSION_SECRET": shortest, "ALLOW_ANONYMOUS": "1"})
    assert (settings.malformed, on(settings)["api keys"], on(settings)["guests"]) == ({}, True, True)


def test_api_keys() -> None:
    """Entries are separated by commas; a name may come twice; a secret may hold colons."""
    keys = from_environ(
        {"API_KEYS": f" web:user:{SECRET} ,, web:user:{SECRET}2,ops.eu-1:operator:{SECRET}:x,"}
    ).api_keys
    assert [(key.name, key.role, key.secret) for key in keys] == [
        ("web", "user", SECRET),
        ("web", "user", f"{SECRET}2"),
        ("ops.eu-1", "operator", f"{SECRET}:x"),
    ]


@pytest.mark.parametrize(
    "entry",
    [
        SECRET,
        f"web:{SECRET}",
        f"web:admin:{SECRET}",
        f"web:User:{SECRET}",
        f":user:{SECRET}",
        f"two words:user:{SECRET}",
        f"{'x' * 65}:user:{SECRET}",
        "web:user:",
        f"web:user:{'x' * (MIN_SECRET_CHARACTERS - 1)}",
        f"web:user:{SECRET} {SECRET}",
        f"web:user:{SECRET}é",
    ],
)
def test_malformed_api_key(entry: str) -> None:
    """An entry that does not hold opens nothing and is named by its number; the others hold."""
    settings = from_environ({"API_KEYS": f"ops:operator:{SECRET},{entry}"})
    assert [key.name for key in settings.api_keys] == ["ops"]
    assert "entry 2" in settings.malformed["API_KEYS"]
    assert from_environ({"API_KEYS": entry}).api_keys == ()


@pytest.mark.parametrize(
    ("allow", "secret", "guests", "malformed"),
    [
        ("1", SECRET, True, []),
        ("true", SECRET, True, []),
        ("TRUE", SECRET, True, []),
        ("0", SECRET, False, []),
        ("false", SECRET, False, []),
        ("", SECRET, False, []),
        ("1", "", False, []),
        ("1", "x" * (MIN_SECRET_CHARACTERS - 1), False, ["SESSION_SECRET"]),
        ("1", f"{SECRET} {SECRET}", False, ["SESSION_SECRET"]),
        ("yes", SECRET, False, ["ALLOW_ANONYMOUS"]),
        ("2", SECRET, False, ["ALLOW_ANONYMOUS"]),
    ],
)
def test_guests(allow: str, secret: str, *, guests: bool, malformed: list[str]) -> None:
    """Guests are welcome where they are allowed and their cookies can be signed, and nowhere by mistake."""
    settings = from_environ({"ALLOW_ANONYMOUS": allow, "SESSION_SECRET": secret})
    assert (settings.allow_anonymous, on(settings)["guests"], list(settings.malformed)) == (guests, guests, malformed)


@pytest.mark.parametrize(
    ("value", "origins", "malformed"),
    [
        ("https://a.example, http://localhost:3000/", ("https://a.example", "http://localhost:3000"), False),
        ("https://A.Example", ("https://a.example",), False),
        ("*", (), True),
        ("a.example", (), True),
        ("https://a.example/path", (), True),
        ("https://a.example?x=1", (), True),
        ("https://a.example, null", ("https://a.example",), True),
    ],
)
def test_origins(value: str, origins: tuple[str, ...], *, malformed: bool) -> None:
    """Origins are scheme and host, in the spelling that browsers send; what is none lets nobody in."""
    settings = from_environ({"ALLOWED_ORIGINS": value})
    assert (settings.allowed_origins, "ALLOWED_ORIGINS" in settings.malformed) == (origins, malformed)


def test_origin_with_a_fragment() -> None:
    """What browsers never send as an origin is not taken for one."""
    assert from_environ({"ALLOWED_ORIGINS": "https://a.example#x"}).malformed.keys() == {"ALLOWED_ORIGINS"}


@pytest.mark.parametrize("value", ["groq", "groq/openai/gpt-oss-120b", "local/anything-new", " xai "])
def test_flag(value: str) -> None:
    """The flag is a provider, or a provider and a model, also one that the catalogue does not know yet."""
    settings = from_environ({"FEATURE_AI_PROVIDER": value})
    assert (settings.provider_flag, settings.malformed) == (value.strip(), {})


@pytest.mark.parametrize("value", ["nobody", "Groq", "/groq", "gpt-oss-120b", CANARY])
def test_malformed_flag(value: str) -> None:
    """A flag that begins with no provider says nothing; which there are is told."""
    settings = from_environ({"FEATURE_AI_PROVIDER": value})
    assert settings.provider_flag is None
    assert "groq, xai, deepinfra, local" in settings.malformed["FEATURE_AI_PROVIDER"]


@pytest.mark.parametrize(
    ("value", "store"),
    [
        (CONNECTION, ("ecfg_x", "https://edge-config.vercel.com/ecfg_x")),
        (f"edge-config:id=ecfg_x&token={SECRET}", ("ecfg_x", "https://edge-config.vercel.com/ecfg_x")),
        (
            f"https://global-config.vercel.com/ecfg_x/?token={SECRET}",
            ("ecfg_x", "https://global-config.vercel.com/ecfg_x"),
        ),
        (f"http://127.0.0.1:8000/ecfg_local?token={SECRET}", ("ecfg_local", "http://127.0.0.1:8000/ecfg_local")),
        (f"http://127.0.0.1:8/below/x?id=ecfg_y&token={SECRET}", ("ecfg_y", "http://127.0.0.1:8/below/x")),
    ],
)
def test_connection_string(value: str, store: tuple[str, str]) -> None:
    """An Edge Config is named by a connection string, in every form that Vercel's own client takes."""
    settings = from_environ({"EDGE_CONFIG": value})
    assert [(store.id, store.url, store.token) for store in settings.stores] == [(*store, SECRET)]
    assert settings.malformed == {}


@pytest.mark.parametrize(
    "value",
    [
        "ecfg_x",
        "https://edge-config.vercel.com/ecfg_x",
        "https://edge-config.vercel.com/ecfg_x?token=",
        f"https://edge-config.vercel.com/?token={SECRET}",
        f"edge-config:token={SECRET}",
        "edge-config:id=ecfg_x",
        f"redis://127.0.0.1/ecfg_x?token={SECRET}",
        f"https://user@edge-config.vercel.com/ecfg_x?token={SECRET}",
        f"https://edge-config.vercel.com/ecfg x?token={SECRET}",
        f"https://edge-config.vercel.com/ecfg_x?token={SECRET}%0d%0ax-leak:%201",
    ],
)
def test_malformed_connection_string(value: str) -> None:
    """What is no connection string names no store."""
    settings = from_environ({"EDGE_CONFIG": value})
    assert (settings.stores, list(settings.malformed)) == ((), ["EDGE_CONFIG"])


def test_names_of_the_store() -> None:
    """The store's newer name wins; an integration's store is read beside it, and once where it is the same."""
    a, b, c = (CONNECTION.replace("ecfg_x", f"ecfg_{name}") for name in "abc")
    both = from_environ({"EDGE_CONFIG": a, "GLOBAL_CONFIG": b, "EXPERIMENTATION_CONFIG": c})
    assert [store.id for store in both.stores] == ["ecfg_b", "ecfg_c"]
    same = from_environ({"EDGE_CONFIG": a, "EXPERIMENTATION_CONFIG": a})
    assert [store.id for store in same.stores] == ["ecfg_a"]
    fallback = from_environ({"EDGE_CONFIG": a, "GLOBAL_CONFIG": "nonsense"})
    assert ([store.id for store in fallback.stores], list(fallback.malformed)) == (["ecfg_a"], ["GLOBAL_CONFIG"])


@pytest.mark.parametrize(
    ("value", "seconds"), [("1", 1), ("30", 30), ("0.5", None), ("3600", 3600), ("3601", None), ("-1", None)]
)
def test_freshness(value: str, seconds: float | None) -> None:
    """How old a value may be is a number of seconds within bounds; else the default holds."""
    settings = from_environ({"EDGE_CONFIG_FRESHNESS": value})
    assert settings.freshness_s == (seconds or DEFAULT_FRESHNESS_S)
    assert bool(settings.malformed) is (seconds is None)


def test_platform() -> None:
    """Where we run is what the platform says."""
    settings = from_environ({"VERCEL_REGION": "fra1", "VERCEL_DEPLOYMENT_ID": "dpl_1"})
    assert (settings.region, settings.deployment) == ("fra1", "dpl_1")


@pytest.mark.parametrize("name", sorted(SECRET_NAMES))
def test_secret_under_a_public_name(name: str) -> None:
    """A secret's name after NEXT_PUBLIC_ is exposed, whatever it holds."""
    assert from_environ({f"NEXT_PUBLIC_{name}": SECRET}).exposed == (f"NEXT_PUBLIC_{name}",)


@pytest.mark.parametrize("name", sorted(SECRET_NAMES))
def test_secret_under_another_public_name(name: str) -> None:
    """A copy of a secret is exposed under any public name."""
    environ = {name: SECRET, "NEXT_PUBLIC_B": SECRET, "NEXT_PUBLIC_A": SECRET, "NEXT_PUBLIC_C": "harmless"}
    assert from_environ(environ).exposed == ("NEXT_PUBLIC_A", "NEXT_PUBLIC_B")


@pytest.mark.parametrize("number", [0, 1])
def test_bearer_key_under_a_public_name(number: int) -> None:
    """The secret of one entry of API_KEYS is a secret by itself: it is what a caller sends."""
    keys = [f"{SECRET}-web", f"{SECRET}-ops"]
    environ = {"API_KEYS": f"web:user:{keys[0]},ops:operator:{keys[1]}", "NEXT_PUBLIC_TOKEN": keys[number]}
    assert from_environ(environ).exposed == ("NEXT_PUBLIC_TOKEN",)


def test_nothing_exposed() -> None:
    """What is public and holds no secret is nobody's business; neither is an empty secret, or a secret itself."""
    environ = {
        "NEXT_PUBLIC_SITE": "https://x.example",
        "NEXT_PUBLIC_EMPTY": "",
        "GROQ_API_KEY": SECRET,
        "XAI_API_KEY": "",
    }
    assert from_environ(environ).exposed == ()


def test_variables() -> None:
    """Each variable is named once, as such names are written, and says what it is for."""
    assert len(NAMES) == len(ALL_VARIABLES)
    for variable in ALL_VARIABLES:
        assert variable.name.replace("_", "").isalnum()
        assert variable.name == variable.name.upper()
        assert variable.help.endswith(".")
        assert variable.part


BAD_OF_KIND = {
    "secret": "two words é",
    "connection": "https://edge-config.vercel.com/ecfg_x",
    "url": "nowhere",
    "flag": "perhaps",
    "number": "many",
    "name": "two words",
    "list": "nowhere",
    "text": "nobody",
    "public": "two words é",
}


@pytest.mark.parametrize("variable", ALL_VARIABLES, ids=[variable.name for variable in ALL_VARIABLES])
def test_every_variable_is_read(variable: object) -> None:
    """What is listed is read: a malformed value of each is noticed, and each example is a good one."""
    name, kind, example_value = (getattr(variable, field) for field in ("name", "kind", "example"))
    bad = BAD_OF_KIND[kind]
    assert list(from_environ({name: bad}).malformed) == [name]
    assert from_environ({name: example_value}).malformed == {}


GOOD = {
    "secret": SECRET,
    "url": f"https://{CANARY.lower()}.example/v1",
    "connection": CONNECTION,
    "flag": "1",
    "number": "30",
    "name": "item-1",
    "list": "https://a.example",
    "text": "groq",
    "public": SECRET,
}
BAD = [
    f"{CANARY} {CANARY}",
    f"{CANARY}é",
    f"ftp://{CANARY}",
    f"https://user:{CANARY}@x.example",
    f"https://{CANARY}:port",
    f"{CANARY}:admin:{CANARY}",
    f"{CANARY}:user:short",
    f"\udcff{CANARY}",
    f"https://[{CANARY}",
]
BAD_FOR_ALL = BAD[:2] + BAD[7:8]
ANY_BAD = {"url", "connection", "number", "name", "list"}
"""Kinds for which everything above is malformed."""


@st.composite
def environs(draw: st.DrawFn) -> dict[str, str]:
    """An environment in which each variable is unset, blank, good or malformed."""
    environ: dict[str, str] = {}
    for variable in ALL_VARIABLES:
        formed = {"API_KEYS": f"web:user:{SECRET}", "GITHUB_REPOSITORY": "acme/web"}
        good = formed.get(variable.name, GOOD[variable.kind])
        bad = st.sampled_from(BAD if variable.kind in ANY_BAD or variable.name == "API_KEYS" else BAD_FOR_ALL)
        value = draw(st.sampled_from([None, None, "", good]) | bad)
        if value is not None:
            environ[variable.name] = value
        if draw(st.integers(0, 9)) == 0:
            environ[f"NEXT_PUBLIC_{variable.name}"] = f"{CANARY} public"
    return environ


@given(environs())
def test_any_environment(environ: dict[str, str]) -> None:
    """Whatever is set, unset or malformed: it is read, malformed counts as unset, and no value is shown."""
    settings = from_environ(environ)
    shown = f"{settings.parts} {settings.malformed} {settings.exposed} {settings.api_keys}"
    assert CANARY not in shown
    assert CANARY not in repr(settings)
    for name in settings.malformed:
        assert CANARY in environ[name]
    assert set(settings.exposed) == {name for name in environ if name[12:] in SECRET_NAMES}
    for row in ROWS:
        needed = environ.get(row.key_var or row.base_url_var)
        is_on = needed == GOOD["secret" if row.key_var else "url"] and row.base_url_var not in settings.malformed
        assert (row.name in settings.vendors) is on(settings)[row.name] is is_on


@given(st.dictionaries(st.sampled_from(sorted(NAMES | {"VERCEL_REGION", "NEXT_PUBLIC_X"})), st.text(max_size=30)))
@example({"ALLOWED_ORIGINS": "https://[", "GROQ_BASE_URL": "http://[v1.]"})
def test_any_values(environ: dict[str, str]) -> None:
    """No value whatever stops the product from starting."""
    settings = from_environ(environ)
    assert settings.malformed.keys() <= environ.keys()


SUPABASE = {
    "SUPABASE_URL": "https://ref.supabase.co/",
    "SUPABASE_SECRET_KEY": "sb_secret_x",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"SITE_URL": "https://a.example/"}, "https://a.example"),
        ({"VERCEL_URL": "x-1.vercel.app"}, "https://x-1.vercel.app"),
        ({"VERCEL_URL": "x-1.vercel.app", "VERCEL_PROJECT_PRODUCTION_URL": "a.example"}, "https://x-1.vercel.app"),
        (
            {"VERCEL_ENV": "production", "VERCEL_URL": "x", "VERCEL_PROJECT_PRODUCTION_URL": "a.example"},
            "https://a.example",
        ),
        ({"SITE_URL": "https://b.example", "VERCEL_URL": "x-1.vercel.app"}, "https://b.example"),
    ],
)
def test_where_the_site_is(environ: dict[str, str], expected: str | None) -> None:
    """The one that is set, else Vercel's: production's domain there, elsewhere the deployment's own."""
    assert from_environ(environ).site_url == expected


def test_supabase() -> None:
    """It takes the address and both keys; without one of them it is off, and says which three it needs."""
    settings = from_environ(SUPABASE)
    assert settings.supabase is not None
    assert (settings.supabase.url, settings.supabase.jwt_secret) == ("https://ref.supabase.co", None)
    assert settings.legacy == ()
    assert "sb_" not in repr(settings)
    for name in SUPABASE:
        settings = from_environ({**SUPABASE, name: ""})
        part = next(part for part in settings.parts if part.name == "supabase")
        assert (settings.supabase, part.on, part.needs) == (None, False, tuple(SUPABASE))


def test_legacy_keys_of_supabase() -> None:
    """Old names count where the new ones are not set, and are warned of; never in place of one that is malformed."""
    old = {"SUPABASE_SERVICE_ROLE_KEY": "eyJ.service", "SUPABASE_ANON_KEY": "eyJ.anon"}
    settings = from_environ({"SUPABASE_URL": "https://ref.supabase.co", **old})
    assert settings.supabase is not None
    assert (settings.supabase.secret_key, settings.supabase.publishable_key) == tuple(old.values())
    assert settings.legacy == tuple(old)
    both = from_environ({**SUPABASE, **old})
    assert both.supabase is not None
    assert (both.supabase.secret_key, both.legacy) == ("sb_secret_x", ())
    assert from_environ({**SUPABASE, **old, "SUPABASE_SECRET_KEY": "two words"}).supabase is None
