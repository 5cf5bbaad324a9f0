"""How English says what needs a ground: numbers, and the words of claims."""

from __future__ import annotations

import re
from decimal import Decimal

from lib.vsl.honesty.language import Language, Rule, rules
from lib.vsl.honesty.quantities import Unit, Words

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def _unit(kind: str, factor: str, names: str) -> dict[str, Unit]:
    return {name: (kind, Decimal(factor)) for name in names.split()}


UNITS: dict[str, Unit] = {
    **_unit("seconds", "1", "second seconds"),
    **_unit("seconds", "60", "minute minutes min mins"),
    **_unit("seconds", "3600", "hour hours h hr hrs"),
    **_unit("days", "1", "day days night nights"),
    **_unit("days", "7", "week weeks"),
    **_unit("months", "1", "month months"),
    **_unit("months", "12", "year years"),
    **_unit("grams", "1", "gram grams g"),
    **_unit("grams", "1000", "kilo kilos kg kilogram kilograms"),
    **_unit("pounds", "1", "lb lbs"),
    **_unit("millimetres", "1", "mm millimetre millimetres millimeter millimeters"),
    **_unit("millimetres", "10", "cm centimetre centimetres centimeter centimeters"),
    **_unit("millimetres", "1000", "m metre metres meter meters"),
    **_unit("millimetres", "1000000", "km kilometre kilometres kilometer kilometers"),
    **_unit("miles", "1", "mile miles"),
    **_unit("millilitres", "1", "ml millilitre millilitres milliliter milliliters"),
    **_unit("millilitres", "1000", "l litre litres liter liters"),
    **_unit("degrees", "1", "degree degrees"),
    **_unit("percent", "1", "percent"),
    **_unit("usd", "1", "dollar dollars bucks usd"),
    **_unit("usd", "0.01", "cent cents"),
    **_unit("eur", "1", "euro euros eur"),
    **_unit("gbp", "1", "quid gbp"),
}
FILLERS = "a an of the full whole long entire more other"
WORDS = Words(
    counted={
        **{word: value for value, word in enumerate(SMALL.split())},
        **{word: 10 * value for value, word in enumerate(TENS.split(), 2)},
        "dozen": 12,
    },
    scales={"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000},
    joins=frozenset({"and"}),
    thousands=",",
    units=UNITS,
    halves=frozenset({"half"}),
    fillers=frozenset(FILLERS.split()),
)

PEOPLE = (
    r"(?:customers?|clients?|users?|students?|learners?|subscribers?|members?|buyers?|readers?|couples|families|homes|"
    r"parents|owners|campers|travellers|travelers|chefs|cooks|professionals|experts|people everywhere|everyone|"
    r"reviewers|critics|engineers|rangers|doctors|scientists|vets|dentists|dermatologists|athletes|drivers|riders)"
)
PRAISE = (
    r"(?:loves?|adores?|raves?|swears?|agrees?|trusts?|recommends?|approves?|reports?|calls? it|call this|prefers?|"
    r"never go(?:es)? back|can't stop|switched|have switched|says?|tell us|love it|choose|chose|rate|rated|praise)"
)
MOST = (
    r"(?:best|most (?!of\b)\w+|(?!(?:re|te|we|que|fore|intere|harve|hone|reque|gue|ne|che|late|inve|prote|mode|arre|"
    r"sugge|dige)st\b)\w{2,}est)\b"
)
RULES: tuple[Rule, ...] = rules(
    (
        "quote",
        r"(?:has|have) (?:already )?(?:helped|changed|transformed)|(?:helps|helping) (?:thousands|millions|countless)",
    ),
    ("scarcity", r"too late"),
    ("price", r"special price|gift ?cards?|price (?:drop|cut)s?"),
    (
        "superlative",
        (
            r"premium|finest|luxur\w+|high(?:est|er)?[- ](?:quality|standards?|performance|end)|"
            r"top[- ](?:quality|rated)|"
            r"first[- ]class|state[- ]of[- ]the[- ]art|cutting[- ]edge|well[- ]known|popular|famous|renowned|"
            r"must[- ]have"
        ),
    ),
    ("attribute", r"experienced|expertly|expertise|skilled|highly trained|(?:maple|bamboo|oak|teak|olive) ?wood|maple"),
    ("number", r"(?:hundreds|thousands|millions|dozens|tens of thousands) of"),
    ("number", r"(?:two|three|four|five|six|seven|eight|nine|ten|\d+) (?:out of|in every) (?:\w+)"),
    ("number", r"(?:twice|\w+ times) (?:as|more|less|longer|faster|better|stronger|\w+er)\b"),
    ("number", r"(?:in|by) half|(?<!the )doubles?\b|doubled|triples?|tripled|half (?:as|of|the (?:price|time))"),
    ("number", r"on average"),
    (
        "price",
        (
            r"(?<!-)(?<!feel )(?<!hands )free(?! (?:of|from|yourself|your|time|to|up|hand))|"
            r"at no (?:extra )?(?:cost|charge)|on us"
        ),
    ),
    ("price", r"as a gift|bonus|get one|for nothing"),
    ("price", r"(?:on sale|discount(?:ed|s)?|half price|bargain|cheap(?:er|est)?|%? off your|introductory price)"),
    (
        "price",
        r"(?:normally|usually|regularly) (?:costs?|\d|[$€£])|costs? less than|(?:dollar|euro|pound)s? value|worth",
    ),
    ("price", r"(?:and|to|you|you'll|will) save(?: (?:money|big|up)|[.,!]|$)|saves you money"),
    ("quote", rf"(?:our|most|all|many|other|happy|thousands of|millions of) (?:\w+ )?{PEOPLE}\b.*\b{PRAISE}"),
    ("quote", rf"\b{PEOPLE} (?:everywhere |all over \w+ |already )?{PRAISE}\b"),
    (
        "quote",
        r"★|five stars|5 stars|testimonials?|reviews? (?:say|agree)|(?:fans|everyone|everybody) (?:loves?|says?)",
    ),
    ("quote", r"(?:trusted|loved|used|chosen|recommended|approved|endorsed|tested|preferred) by"),
    ("name", r"as (?:seen|featured|heard) (?:on|in)|featured (?:on|in|by)|dr\.|professor|university|editor's choice"),
    ("scarcity", r"hurry|last chance|final (?:chance|hours|days)|act (?:now|fast|quickly)|don't (?:wait|miss|delay)"),
    ("scarcity", r"only (?:a )?(?:handful|few|\w+) (?:\w+ )?(?:left|remain)|(?:are|is|places?|spots?|seats?) left"),
    (
        "scarcity",
        r"(?:places?|spots?|seats?|pieces|units) (?:remain|are limited|available)|just \w+ (?:places?|spots?)",
    ),
    ("scarcity", r"(?:almost|nearly|soon|already) (?:gone|sold out|over)|s(?:ell|old|elling|ells) (?:out|fast)"),
    ("scarcity", r"running out|run(?:s)? out (?:soon|fast)|while (?:stocks?|supplies|it|they) lasts?|limited"),
    (
        "scarcity",
        (
            r"(?:ends?|closes?|expires?|disappears?|stops) (?:on |this |at |in |by )?"
            r"(?:tonight|today|tomorrow|soon|midnight|week|month|weekend|\w+day)"
        ),
    ),
    ("scarcity", r"today only|only (?:today|tonight|this week|for \w+ (?:hours|days))|until midnight|for a limited"),
    (
        "scarcity",
        (
            r"price (?:rises|goes up|will rise|doubles|increases)|before (?:the price|it's too late|it is too late|"
            r"they're gone|it's gone|they are gone|winter|summer|christmas)"
        ),
    ),
    ("scarcity", r"in the next \w+ (?:minutes|hours)|exclusive(?:ly)?|rare|once in a lifetime|won't last|we only make"),
    ("guarantee", r"guarante\w*"),
    ("guarantee", r"warrant(?:y|ies)|for life\b|lifetime|forever|life-?long|never (?:breaks?|fails?|wears?)"),
    ("guarantee", r"money[- ]back|money back|refund\w*|pay nothing|reimburse\w*|every cent"),
    ("guarantee", r"(?:risk[- ]free|no risk|without risk|nothing to lose|no questions asked)"),
    ("guarantee", r"(?:return|send) it(?: back)?|(?:we|we'll|will) replace"),
    ("guarantee", r"cancel\w*|or it is on us|or it's on us"),
    (
        "superlative",
        (
            rf"(?:the|our|your|world's) (?:very )?{MOST}(?:[- ]\w+){{0,4}} (?:in|on|ever|you can|you'll ever|money|"
            r"available|around|out there|of (?:all|its|the)|that (?:money|exists)|there is|we have|possible)"
        ),
    ),
    ("superlative", rf"(?:is|are|be) (?:simply |by far |still |also )?(?:the|our) {MOST}"),
    ("superlative", rf"(?:the|simply the) {MOST} (?:way|method|choice|solution|product|deal|price)"),
    ("superlative", r"number one|number 1|no\. ?1|#1|# 1|world's|in the world|on earth|on the market|second to none"),
    (
        "superlative",
        (
            r"nothing (?:else )?(?:comes close|compares|beats)|no(?:ne| other| one else)\b.*\b(?:as|like|comes?|"
            r"so|does|can)|comes close"
        ),
    ),
    (
        "superlative",
        (
            r"(?:\w+er|more \w+|less \w+|superior) (?:than|to) (?:any|every|all|other|the (?:competition|rest|"
            r"others|market)|anything|everything|ever|our rivals)"
        ),
    ),
    (
        "superlative",
        (
            r"unrivall?ed|unbeat\w+|unmatched|unparallel\w+|unique|leading|ultimate|perfect|world[- ]class|"
            r"revolutionary|breakthrough|best[- ]selling|bestselling|favou?rite (?:\w+ )?(?:app|brand|of)|"
            r"the only \w+ (?:you|that)"
        ),
    ),
    (
        "medical",
        (
            r"(?:cures?|heals?|treats?|relieves?|prevents?|soothes?|fights?|reduces?|lowers?|boosts?|improves?|eases?|"
            r"calms?) (?:\w+ ){0,3}(?:pain|ache|aches|joints?|stress|anxiety|depression|insomnia|cancer|"
            r"arthritis|eczema|"
            r"dementia|immune|blood|pressure|nervous|sleep|inflammation|disease|illness|symptoms|skin|"
            r"headaches?|migraines?)"
        ),
    ),
    ("medical", r"\bcur(?:es?|ed|ing)\b|\bheals?\b|clinical\w*|scientific\w*|proven|medical\w*|therap\w+|side effects"),
    (
        "medical",
        r"doctors?|physicians?|dermatologists?|vets?|veterinarians?|studies|a study|immune|antioxidants?|detox\w*",
    ),
    ("medical", r"arthritis|dysplasia|dementia|insomnia|anxiety|blood pressure|inflammat\w+|puts you to sleep"),
    (
        "attribute",
        (
            r"\w+-?proof|water[- ]?resistant|unbreakable|indestructible|\w+-safe|(?:dishwasher|oven|"
            r"microwave|child) safe|non[- ]?toxic|toxin\w*"
        ),
    ),
    (
        "attribute",
        (
            r"organic\w*|vegan|natural|sustainab\w+|eco[- ]?friendly|green energy|recycl\w+|biodegradable|"
            r"renewable|carbon\W+neutral|fair[- ]?trade|hypoallergenic|environment\w*|planet"
        ),
    ),
    (
        "attribute",
        (
            r"certif\w+|award\w*|patent\w*|approved|accredited|recogni[sz]ed|licen[sc]ed|official\w*|voted|"
            r"(?:lab|laboratory)[- ]tested|tested|champion|prize"
        ),
    ),
    (
        "attribute",
        (
            r"encrypt\w*|(?:military|bank|medical|professional)[- ]grade|secure|syncs?\b|integrat\w+|"
            r"artificial intelligence|machine learning"
        ),
    ),
    (
        "attribute",
        (
            r"hand[- ]?(?:made|crafted)|(?:solid|genuine|real|pure|made (?:of|from|with)|is) (?:\w+ )?(?:oak|olive|"
            r"walnut|bamboo|leather|titanium|steel|aluminium|aluminum|brass|copper|silver|gold|cotton|wool|"
            r"silk|linen|ceramic|"
            r"cashmere|marble|carbon fib(?:re|er))\b"
        ),
    ),
    (
        "attribute",
        (
            r"(?:with|contains?|rich in|full of) (?:\w+ )?(?:chamomile|valerian|ginger|ginseng|honey|vitamins?|"
            r"protein|collagen|cbd|melatonin|caffeine|sugar)"
        ),
    ),
    ("attribute", r"unlimited|instant\w*|(?:in|within) (?:minutes|seconds|hours|days|no time)|overnight"),
)
COMMON_NAMES = (
    "i i'm i'd i'll i've ok tv a.m p.m am pm mr mrs monday tuesday wednesday thursday friday saturday sunday january "
    "february march april may june july august september october november december christmas easter god"
)
QUIET = (
    "that this with have your you're from they them then than when what will would could should there here just like "
    "love into onto over back money after before some more only even very also does doesn't don't want each every "
    "it's its isn't aren't won't suit suits right reason give gives get gets keep make whole full please happy price "
    "simply change mind tell promise stop whenever return send refund refunded cancel still"
)
"""Words that say nothing of their own in a promise."""
SAYS = r"(?:says?|said|writes?|wrote|tells?|told|reports?|recalls?|adds?|confirms?|explains?|swears?|laughs|remembers)"
ENGLISH = Language(
    WORDS,
    RULES,
    frozenset(COMMON_NAMES.split()),
    frozenset(QUIET.split()),
    re.compile(SAYS),
    single=frozenset({"single"}),
)
