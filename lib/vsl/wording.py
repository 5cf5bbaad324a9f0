"""Our own wording of a script: what stands where no model wrote anything that may stay.

It claims nothing but what the brief says, in the brief's words; all else is said of no product in particular. Each beat
has several ways to say it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lib.vsl.beats import Beat, Slot

SPOKEN_NAME_WORDS = 5
ENDS = ".!?…"
MAX_HEADLINE = 42
TOO_LONG = 1.3
"""How much longer than planned a slot may be."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A language's ways to say each beat, in sentences, the first ones the most needed.

    `{name}` is the product in short, `{product}` in full, `{audience}` whom it is for. `told` go before what the brief
    says word for word, `rest` after it where there is time.
    """

    said: Mapping[Beat, Sequence[Sequence[str]]]
    said_to_all: Mapping[Beat, Sequence[Sequence[str]]]
    told: Mapping[Beat, Sequence[str]]
    rest: Mapping[Beat, Sequence[Sequence[str]]]
    promise: str
    address: str
    headlines: Mapping[Beat, Sequence[str]]
    alt: str


ENGLISH = Wording(
    said={
        "hook": (
            (
                "This is for {audience}.",
                "{name}: what would it change in your day?",
                "Take a minute and judge for yourself.",
            ),
            ("What if the hard part were no longer hard?", "This is for {audience}.", "Stay for a minute."),
            ("Let's talk about the part that nobody talks about.", "This is for {audience}."),
        ),
        "problem": (
            (
                "You know the moment.",
                "It ought to be simple, and it isn't.",
                "You make do, you lose time, and you tell yourself that it has to be like this.",
                "It doesn't.",
            ),
            (
                "It begins as a small thing.",
                "Then it comes back, day after day, and takes a little of your patience each time.",
                "After a while you hardly notice what it costs you.",
            ),
            (
                "You have tried to live with it.",
                "You have found your ways around it, and you are good at them by now.",
                "And still, here it is again.",
            ),
        ),
        "agitation": (
            (
                "Small troubles have a way of growing.",
                "What costs you a minute today costs you an evening later.",
                "And what you put off once is easy to put off again.",
            ),
            (
                "Nothing gets better by waiting.",
                "The next time is already on its way, and it will find you no better prepared.",
            ),
            (
                "You could go on like this.",
                "You would get by, as you always have.",
                "But you would be having this same thought again and again.",
            ),
        ),
        "story": (
            (
                "Picture an ordinary day.",
                "You do what you always do.",
                "Only the part that you used to dread is now just another part of the day.",
            ),
            (
                "Think of the next time.",
                "The same place, the same hour.",
                "But now you are ready for it, and you catch yourself smiling.",
            ),
            (
                "Imagine telling a friend about it.",
                "Not about a thing that you bought, but about the evening you had, because nothing got in the way.",
            ),
        ),
    },
    said_to_all={
        "hook": (
            ("{name}: what would it change in your day?", "Take a minute and judge for yourself."),
            ("What if the hard part were no longer hard?", "Stay for a minute."),
            ("Let's talk about the part that nobody talks about.", "It won't take long."),
        ),
    },
    told={
        "solution": ("This is {product}.", "Meet {product}.", "So here it is: {product}."),
        "proof": (
            "Here is what we can say for a fact.",
            "No big words, just what is so.",
            "Don't take our word for it; take the facts.",
        ),
        "offer": ("Here is what you get: {offer}", "The offer is simple: {offer}", "And this is the offer: {offer}"),
        "guarantee": ("Our promise to you: {guarantee}", "You have our word: {guarantee}"),
        "cta": ("{cta}", "{cta}"),
    },
    rest={
        "solution": (("It does its part, so that you can do yours.",), ("Nothing more, nothing less.",)),
        "proof": (("That is all we claim.", "The rest is for you to see."), ("The rest is for you to see.",)),
        "offer": (("The choice is yours.",), ("Take it or leave it.",)),
        "guarantee": (("So the choice stays with you.",), ("We mean it.",)),
        "cta": (("The next step is yours.",), ("It begins with one small step.",)),
    },
    promise="Our promise: {guarantee}",
    address="You find it at {address}.",
    headlines={
        "hook": ("{name}",),
        "problem": ("You know the moment", "Day after day", "Here it is again"),
        "agitation": ("Small troubles grow", "Nothing gets better by waiting", "You could go on like this"),
        "story": ("An ordinary day", "Think of the next time", "Nothing got in the way"),
        "solution": ("Meet {name}",),
        "proof": ("The facts", "Just what is so", "Take the facts"),
        "offer": ("{offer}",),
        "guarantee": ("Our promise",),
        "cta": ("{cta}",),
    },
    alt="Illustration for {product}",
)

PORTUGUESE = Wording(
    said={
        "hook": (
            ("Isto é para {audience}.", "{name}: o que mudaria no seu dia?", "Fique um minuto e tire a sua conclusão."),
            ("E se a parte difícil deixasse de ser difícil?", "Isto é para {audience}.", "Fique um minuto."),
            ("Vamos falar daquilo de que ninguém fala.", "Isto é para {audience}."),
        ),
        "problem": (
            (
                "Você conhece esse momento.",
                "Era para ser simples, e não é.",
                "Você dá um jeito, perde tempo e diz a si mesmo que tem de ser assim.",
                "Não tem.",
            ),
            (
                "Começa como uma coisa pequena.",
                "Depois volta, dia após dia, e a cada vez leva um pouco da sua paciência.",
                "Com o tempo, você mal percebe o que isso lhe custa.",
            ),
            (
                "Você já tentou conviver com isso.",
                "Já achou os seus atalhos, e a esta altura é bom neles.",
                "E mesmo assim, aqui está de novo.",
            ),
        ),
        "agitation": (
            (
                "Problema pequeno tem o costume de crescer.",
                "O que hoje custa um minuto, mais tarde custa a noite.",
                "E o que se adia uma vez é fácil adiar de novo.",
            ),
            (
                "Esperar não melhora nada.",
                "A próxima vez já está a caminho, e vai encontrar você do mesmo jeito.",
            ),
            (
                "Dá para continuar assim.",
                "Você se vira, como sempre se virou.",
                "Mas vai ter este mesmo pensamento outra vez, e mais outra.",
            ),
        ),
        "story": (
            (
                "Imagine um dia comum.",
                "Você faz o que sempre faz.",
                "Só que a parte que dava trabalho virou mais uma parte do dia.",
            ),
            (
                "Pense na próxima vez.",
                "O mesmo lugar, a mesma hora.",
                "Mas agora está tudo pronto, e você se pega sorrindo.",
            ),
            (
                "Imagine contar isso a um amigo.",
                "Não sobre uma coisa que comprou, mas sobre a noite que teve, porque nada atrapalhou.",
            ),
        ),
    },
    said_to_all={
        "hook": (
            ("{name}: o que mudaria no seu dia?", "Fique um minuto e tire a sua conclusão."),
            ("E se a parte difícil deixasse de ser difícil?", "Fique um minuto."),
            ("Vamos falar daquilo de que ninguém fala.", "É rápido."),
        ),
    },
    told={
        "solution": ("Apresentamos: {product}.", "Conheça: {product}.", "Aqui está: {product}."),
        "proof": (
            "Vamos aos fatos.",
            "Sem palavras grandes, só o que é.",
            "Não precisa acreditar em nós; veja os fatos.",
        ),
        "offer": ("Você leva o seguinte: {offer}", "A oferta é simples: {offer}", "E esta é a oferta: {offer}"),
        "guarantee": ("A nossa promessa: {guarantee}", "Você tem a nossa palavra: {guarantee}"),
        "cta": ("{cta}", "{cta}"),
    },
    rest={
        "solution": (("Nada além do necessário.",), ("Nem mais, nem menos.",)),
        "proof": (("É tudo o que afirmamos.", "O resto fica com você."), ("O resto fica com você.",)),
        "offer": (("A escolha é sua.",), ("É pegar ou largar.",)),
        "guarantee": (("Assim a escolha continua sendo sua.",), ("Pode cobrar.",)),
        "cta": (("O próximo passo é seu.",), ("Começa com um passo pequeno.",)),
    },
    promise="A nossa promessa: {guarantee}",
    address="Você encontra em {address}.",
    headlines={
        "hook": ("{name}",),
        "problem": ("Você conhece esse momento", "Dia após dia", "Aqui está de novo"),
        "agitation": ("Problema pequeno cresce", "Esperar não melhora nada", "Dá para continuar assim?"),
        "story": ("Um dia comum", "Pense na próxima vez", "Nada atrapalhou"),
        "solution": ("Conheça: {name}",),
        "proof": ("Os fatos",),
        "offer": ("{offer}",),
        "guarantee": ("A nossa promessa",),
        "cta": ("{cta}",),
    },
    alt="Ilustração para {product}",
)
WORDINGS: Mapping[str, Wording] = {"en": ENGLISH, "pt": PORTUGUESE}


@dataclass(frozen=True, slots=True)
class Line:
    """What a frame says, and whether that is the brief, word for word."""

    text: str
    is_told: bool


def ways(slot: Slot, request: Mapping[str, Any]) -> tuple[Line, ...]:
    """The ways to fill a slot, each about as long as it has time for; at least one.

    What the brief says is said whole, however little time there is. Where it says nothing for this beat, the product
    alone is named.
    """
    wording = WORDINGS[request["language"].partition("-")[0]]
    names = _names(request)
    audience = request["audience"] is not None
    if slot.beat in wording.said:
        ways_to_say = wording.said if audience else {**wording.said, **wording.said_to_all}
        return tuple(
            Line(_fitting([], _filled(each, names), slot.words), is_told=False) for each in ways_to_say[slot.beat]
        )
    told = _from_brief(slot.beat, request, names, wording)
    rest = wording.rest[slot.beat]
    return tuple(
        Line(_fitting([*_filled([lead], names), *told], _filled(rest[at % len(rest)], names), slot.words), is_told=True)
        for at, lead in enumerate(wording.told[slot.beat])
    )


def headline(beat: Beat, request: Mapping[str, Any], variant: int = 0) -> str:
    """A few words for the screen."""
    wording = WORDINGS.get(request["language"].partition("-")[0], ENGLISH)
    choices = wording.headlines[beat]
    text = shortened(choices[variant % len(choices)].format_map(_names(request)))
    return text[:1].upper() + text[1:]


def illustration(request: Mapping[str, Any], headline_: str) -> str:
    """A picture's alternative text where nobody described it."""
    wording = WORDINGS.get(request["language"].partition("-")[0], ENGLISH)
    name = _names(request)["name"]
    if not name:
        return headline_
    alt = wording.alt.format(product=name)
    return alt if name in headline_ else f"{alt}: {headline_}"


def short_name(product: str) -> str:
    """The product without what is said about it after a comma: "Habla, a course of Spanish" is Habla."""
    name = re.split(r"[,:;(\u2013\u2014]| - ", product)[0].strip() or product
    words = name.split()
    return name if len(words) <= SPOKEN_NAME_WORDS else " ".join(words[:SPOKEN_NAME_WORDS])


def shortened(text: str, most: int = MAX_HEADLINE) -> str:
    """A text's first words, as many as the screen takes; without what ends a sentence, unless it asks."""
    text = text.rstrip(".…! ")
    if len(text) <= most:
        return text
    clause = re.split(r"[.!?,;:]\s", text)[0]
    if len(clause) <= most:
        return clause
    cut = clause[: most - 1].rpartition(" ")[0] or clause[: most - 1]
    return f"{cut}…"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.rstrip("\"”»')").endswith(tuple(ENDS)) else f"{text}."


def _from_brief(beat: Beat, request: Mapping[str, Any], names: Mapping[str, str], wording: Wording) -> list[str]:
    facts = [sentence(fact["text"]) for fact in request["facts"]]
    half = (len(facts) + 1) // 2
    match beat:
        case "solution":
            return facts[:half]
        case "proof":
            return facts[half:]
        case "offer":
            is_short = "guarantee" not in request.get("beats", ()) and request["guarantee"] is not None
            return _filled([wording.promise], names) if is_short else []
        case "cta":
            url: str = request["cta"]["url"] or "" if request["cta"] else ""
            host = urlsplit(url).hostname
            return [wording.address.format(address=host.removeprefix("www."))] if host else []
        case _:
            return []


def _names(request: Mapping[str, Any]) -> dict[str, str]:
    product = request["product"] or ""
    name = short_name(product)
    return {
        "product": product.rstrip(ENDS),
        "name": name,
        "audience": (request["audience"] or "").rstrip(ENDS),
        "offer": request["offer"] or name,
        "guarantee": request["guarantee"] or name,
        "cta": request["cta"]["text"] if request["cta"] else name,
    }


def _filled(lines: Sequence[str], names: Mapping[str, str]) -> list[str]:
    return [sentence(line.format_map(names)) for line in lines]


def _fitting(needed: Sequence[str], more: Sequence[str], words: int) -> str:
    """What is needed, and of the rest as many sentences as there is time for; the first one always."""
    said = list(needed)
    for each in more:
        if said and len(" ".join([*said, each]).split()) > words * TOO_LONG:
            break
        said.append(each)
    return " ".join(said)
