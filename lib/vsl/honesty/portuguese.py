"""How Portuguese, of Brazil and of Portugal, says what needs a ground. All patterns without accents."""

from __future__ import annotations

import re
from decimal import Decimal

from lib.vsl.honesty.language import Language, Rule, rules
from lib.vsl.honesty.quantities import Unit, Words

SMALL = (
    "zero um dois tres quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezesseis dezessete dezoito "
    "dezenove"
)
TENS = "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa"
HUNDREDS = "duzentos trezentos quatrocentos quinhentos seiscentos setecentos oitocentos novecentos"


def _unit(kind: str, factor: str, names: str) -> dict[str, Unit]:
    return {name: (kind, Decimal(factor)) for name in names.split()}


UNITS: dict[str, Unit] = {
    **_unit("seconds", "1", "segundo segundos"),
    **_unit("seconds", "60", "minuto minutos min"),
    **_unit("seconds", "3600", "hora horas h"),
    **_unit("days", "1", "dia dias noite noites"),
    **_unit("days", "7", "semana semanas"),
    **_unit("months", "1", "mes meses"),
    **_unit("months", "12", "ano anos"),
    **_unit("grams", "1", "grama gramas g"),
    **_unit("grams", "1000", "quilo quilos kg quilograma quilogramas"),
    **_unit("millimetres", "1", "mm milimetro milimetros"),
    **_unit("millimetres", "10", "cm centimetro centimetros"),
    **_unit("millimetres", "1000", "m metro metros"),
    **_unit("millimetres", "1000000", "km quilometro quilometros"),
    **_unit("millilitres", "1", "ml mililitro mililitros"),
    **_unit("millilitres", "1000", "l litro litros"),
    **_unit("degrees", "1", "grau graus"),
    **_unit("brl", "1", "real reais brl"),
    **_unit("brl", "0.01", "centavo centavos"),
    **_unit("eur", "1", "euro euros eur"),
    **_unit("usd", "1", "dolar dolares usd"),
}
FILLERS = "o a os as de do da dos das ate mais outros outras"
WORDS = Words(
    counted={
        **{word: value for value, word in enumerate(SMALL.split())},
        **{word: 10 * value for value, word in enumerate(TENS.split(), 2)},
        **{word: 100 * value for value, word in enumerate(HUNDREDS.split(), 2)},
        **{word[:-2] + "as": 100 * value for value, word in enumerate(HUNDREDS.split(), 2)},
        "uma": 1,
        "duas": 2,
        "quatorze": 14,
        "dezasseis": 16,
        "dezassete": 17,
        "dezanove": 19,
        "duzia": 12,
        "cento": 100,
        "cem": 100,
    },
    scales={"mil": 1000, "milhao": 1_000_000, "milhoes": 1_000_000, "bilhao": 10**9, "bilhoes": 10**9},
    joins=frozenset({"e"}),
    thousands=".",
    units=UNITS,
    halves=frozenset({"meia", "meio"}),
    fillers=frozenset(FILLERS.split()),
)
PEOPLE = (
    r"(?:clientes?|alunos?|alunas?|usuari[oa]s?|utilizador(?:es)?|assinantes?|familias|consumidor(?:es|as)?|viajantes|"
    r"especialistas|medicos|dermatologistas|profissionais|chefs?|cozinheir[oa]s|todo mundo|todos|pessoas|leitores|"
    r"ciclistas|donas|maes|pais|quem (?:anda|usa|compra|testa|experimenta)\b.*)"
)
PRAISE = (
    r"(?:ama|amam|adora|adoram|elogia|elogiam|recomenda|recomendam|aprova|aprovam|confia|confiam|sao apaixonad\w+|"
    r"nao (?:voltam?|largam?|trocam?)|ja (?:trocaram|escolheram|aprovaram|usam|compraram)|dizem|diz|repetem|preferem|"
    r"contam|garantem|voltam)"
)
SCOPE = (
    r"(?:d[oae]s? (?:mundo|brasil|portugal|pais|mercado|europa|nordeste|sul|mundial|planeta|que)|que existe|"
    r"ja \w+|do que)"
)
RULES: tuple[Rule, ...] = rules(
    ("quote", r"(?:ja )?(?:ajudou|mudou|transformou) (?:a vida|milhares|muit\w+|pessoas|familias)"),
    ("scarcity", r"tarde demais"),
    ("price", r"preco especial|vale[- ]presente"),
    (
        "superlative",
        (
            r"premium|luxuos\w+|de luxo|(?:alta|maxima|altissima) (?:qualidade|performance)|de ponta|ultima geracao|"
            r"famos[oa]s?|renomad\w+|popular(?:es)?"
        ),
    ),
    ("attribute", r"experientes?|altamente treinad\w+|madeira (?:de|nobre|macica)"),
    ("number", r"(?:centenas|milhares|milhoes|dezenas) de|mais de mil"),
    ("number", r"(?:dois|duas|tres|quatro|cinco|seis|sete|oito|nove|\d+) (?:em|de) cada \w+|\w+ por cento"),
    ("number", r"\w+ vezes (?:mais|menos|maior|melhor|menor)"),
    ("number", r"(?:o )?dobr(?:o|a|am|ou|ar)|tripl\w+|pela metade|metade d[oa]|menos da metade|em media"),
    ("price", r"gratis|gratuit\w+|de graca|sem custo|por nossa conta|por conta da casa"),
    ("price", r"(?:de|como) brinde|bonus|de presente|leve \w+(?: \w+)? (?:e )?pague|ganha (?:um|uma|ainda)"),
    (
        "price",
        r"desconto\w*|promoc\w+|oferta especial|liquidac\w+|barat\w+|economiz\w+|poup(?:a|e|ar)(?: \w+)? dinheiro",
    ),
    ("price", r"normalmente (?:custa|sai)|vale mais|custa menos"),
    ("quote", rf"(?:noss[oa]s|todos os|todas as|muit[oa]s|milhares de|as|os) (?:\w+ )?{PEOPLE}\b.*\b{PRAISE}"),
    ("quote", rf"{PEOPLE} (?:\w+ ){{0,3}}{PRAISE}"),
    (
        "quote",
        (
            r"★|cinco estrelas|depoimentos?|avaliac\w+|(?:aprovad|recomendad|usad|testad|escolhid|"
            r"preferid)[oa]s? p(?:or|el[oa]s?)"
        ),
    ),
    ("name", r"(?:como visto|visto n[ao]|dr\.|dra\.|doutor\w*|universidade|parceir[oa] oficial|preferid[oa] d[aoe])"),
    ("scarcity", r"corra|ultim[oa]s? (?:vagas?|unidades?|chances?|oportunidades?|pecas?|dias?|horas?|lugares)"),
    (
        "scarcity",
        r"resta(?:m)? (?:apenas |so |poucas? |poucos? )?\w+|(?:poucas?|poucos?) (?:unidades|vagas|pecas|lugares)",
    ),
    ("scarcity", r"vagas? limitad\w+|limitad[oa]s?|esgot\w+|acaband\w+|enquanto durar\w*|no estoque|em stock"),
    (
        "scarcity",
        (
            r"(?:termina|acaba|encerra|expira|valid[oa])\w* (?:\w+ )?(?:hoje|amanha|n?esta semana|meia-noite|"
            r"domingo|em breve)"
        ),
    ),
    (
        "scarcity",
        r"so (?:ate|hoje|n?esta)|somente (?:hoje|n?esta|ate)|apenas hoje|meia[- ]noite|nao perca|nao espere|antes que",
    ),
    ("scarcity", r"(?:o )?preco (?:sobe|dobra|aumenta|vai subir)|exclusiv\w+|rar[oa]s?|por tempo"),
    ("guarantee", r"garant\w+"),
    ("guarantee", r"vitalici\w+|para sempre|para a vida toda|pela vida"),
    ("guarantee", r"(?:seu )?dinheiro de volta|devolv\w+|reembols\w+|devoluc\w+"),
    ("guarantee", r"sem riscos?|sem perguntas|risco zero|nada a perder|satisfac\w+"),
    ("guarantee", r"(?:a gente |nos )?troc(?:a|amos|aremos)(?! de\b)(?= |\.|,|!)(?: por| sem| em| o| a| para)?"),
    ("guarantee", r"cancel\w+"),
    ("superlative", rf"(?:o|a|os|as) (?:\w+ ){{0,3}}mais \w+(?: \w+)? {SCOPE}"),
    ("superlative", rf"(?:o|a|os|as) (?:melhor|melhores|maior|maiores|unic[oa])(?: \w+){{0,3}} {SCOPE}"),
    ("superlative", r"numero um|numero 1|n\.? ?1|#1|lider(?:es)?|do mundo|mundial"),
    (
        "superlative",
        (
            r"nenhum(?:a)? outr[oa]|sem igual|incomparav\w+|imbativ\w+|inigualav\w+|insuperav\w+|"
            r"superior(?:es)?|perfeit[oa]s?"
        ),
    ),
    (
        "superlative",
        (
            r"(?:mais \w+|melhor|maior) (?:do )?que (?:qualquer|tod[oa]s|as outras|os outros|a concorrencia|"
            r"nunca)|revolucionari\w+"
        ),
    ),
    (
        "medical",
        r"cur(?:a|am|ar|ou)\b|trat(?:a|ar) (?:de |a |o )?\w+|previn\w+|previne|alivi\w+|combat\w+|sar(?:a|ar)\b",
    ),
    (
        "medical",
        (
            r"(?:elimina|acaba com|reduz|diminui) (?:\w+ ){0,3}(?:dor|dores|estresse|stress|ansiedade|"
            r"insonia|inflamac\w+|inchaco)"
        ),
    ),
    (
        "medical",
        (
            r"clinic\w+|cientific\w+|comprovad\w+|medic[oa]s?|dermatolog\w+|estudos?|efeitos? colatera\w+|"
            r"imunidade|imunologic\w+"
        ),
    ),
    (
        "medical",
        r"cancer|eczema|artrite|artrose|ansiedade|insonia|depress\w+|pressao (?:alta|arterial)|dores? (?:nas|no|na|de)",
    ),
    (
        "attribute",
        r"a prova d\W?\w+|impermeav\w+|antifurto|inquebrav\w+|inoxidav\w+|resistente a|micro-?ondas|lava-?loucas?",
    ),
    (
        "attribute",
        (
            r"organic[oa]s?|biologic[oa]s?|vegan[oa]s?|natura(?:l|is)|sustentav\w+|ecologic[oa]s?|"
            r"biodegradav\w+|recicl\w+|atoxic\w+|toxinas?|"
            r"hipoalergenic\w+"
        ),
    ),
    (
        "attribute",
        (
            r"certific\w+|premiad[oa]s?|premios?|vencedor\w*|patente\w*|homologad\w+|reconhecid[oa]s?|"
            r"oficia(?:l|is)|testad[oa]s?|laboratorio|"
            r"campe(?:ao|a)|aprovad[oa]s?"
        ),
    ),
    ("attribute", r"criptograf\w+|seguranca de|integr(?:a|am|ad\w+)|sincroniz\w+|inteligencia artificial"),
    (
        "attribute",
        r"artesana(?:l|is)|feit[oa] a mao|couro legitimo|(?:de|em) (?:ouro|prata|titanio|carbono|couro|aco|bambu)\b",
    ),
    ("attribute", r"ilimitad\w+|instantane\w+|em (?:poucos|alguns|segundos|minutos) ?\w*"),
)
COMMON_NAMES = "deus natal pascoa tv ok sr sra dona seu"
QUIET = (
    "esse essa este esta isso isto para pelo pela como quando quem onde voce voces gostar gostou nao mais muito tudo "
    "seja sejam caso qualquer gente nosso nossa nossos nossas dinheiro valor volta devolvemos devolve reembolso troca "
    "trocamos inteiro toda todo ainda tambem entao depois antes dentro ate entre sobre seu sua seus suas"
)
SAYS = re.compile(
    r"(?:diz|disse|conta|contou|afirma|afirmou|relata|relatou|escreve|escreveu|comenta|comemora|garante|lembra|explica|"
    r"confirma|resume)"
)
PORTUGUESE = Language(WORDS, RULES, frozenset(COMMON_NAMES.split()), frozenset(QUIET.split()), SAYS, single=frozenset())
