"""Rules for names, labels and ports; every function returns messages (empty: fine), worded as upstream's.

Reference: k8s.io/apimachinery ``util/validation``.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Any

from orca.api.remembering import LONGEST

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_UNDERSCORE = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_UNDERSCORE = rf"{_LABEL_UNDERSCORE}(\.{_LABEL_UNDERSCORE})*"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_ENV_RELAXED = r"[ -<>-~]+"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_HEADER = r"[-A-Za-z0-9]+"
_PERCENT = r"[0-9]+%"
_PORT_CHARACTERS = re.compile(r"^[-a-z0-9]+$")
_PORT_LETTER = re.compile(r"[a-z]")

_re_label = re.compile(f"^{_LABEL}$")
_re_label_1035 = re.compile(f"^{_LABEL_1035}$")
_re_subdomain = re.compile(f"^{_SUBDOMAIN}$")
_re_subdomain_underscore = re.compile(f"^{_SUBDOMAIN_UNDERSCORE}$")
_re_wildcard = re.compile(rf"^\*\.{_SUBDOMAIN}$")
_re_qualified = re.compile(f"^{_QUALIFIED}$")
_re_label_value = re.compile(f"^({_QUALIFIED})?$")
_re_env_relaxed = re.compile(f"^{_ENV_RELAXED}$")
_re_config_key = re.compile(f"^{_CONFIG_KEY}$")
_re_header = re.compile(f"^{_HEADER}$")
_re_percent = re.compile(f"^{_PERCENT}$")

SUBDOMAIN_MAX = 253
LABEL_MAX = 63

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
    "which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"


def empty() -> str:
    """Upstream's text for a value that must not be empty."""
    return "must be non-empty"


def max_length(limit: int) -> str:
    """Upstream's text for a value that is too long."""
    return f"must be no more than {limit} bytes"


def in_range(low: int, high: int) -> str:
    """Upstream's text for a number out of range."""
    return f"must be between {low} and {high}, inclusive"


def regex_error(text: str, pattern: str, *examples: str) -> str:
    """Upstream's ``RegexError``: the rule, examples and the expression used."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    listed = " or ".join(f"'{example}'" for example in examples[:1])
    for example in examples[1:]:
        listed += f",  or '{example}'"
    return f"{text} (e.g. {listed}, regex used for validation is '{pattern}')"


@lru_cache(maxsize=8192)
def _dns1123_label(value: str) -> tuple[str, ...]:
    found = []
    if len(value.encode()) > LABEL_MAX:
        found.append(max_length(LABEL_MAX))
    if not _re_label.match(value) or value.endswith("\n"):
        if _re_subdomain.match(value) and not value.endswith("\n"):
            found.append("must not contain dots")
        else:
            found.append(regex_error(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return tuple(found)


def dns1123_label(value: str) -> list[str]:
    """RFC 1123 label, at most 63 bytes."""
    return list(_dns1123_label(value) if len(value) <= LONGEST else _dns1123_label.__wrapped__(value))


@lru_cache(maxsize=8192)
def _dns1123_subdomain(value: str) -> tuple[str, ...]:
    found = []
    if len(value.encode()) > SUBDOMAIN_MAX:
        found.append(max_length(SUBDOMAIN_MAX))
    if not _re_subdomain.match(value) or value.endswith("\n"):
        found.append(regex_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return tuple(found)


def dns1123_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain, at most 253 bytes."""
    return list(_dns1123_subdomain(value) if len(value) <= LONGEST else _dns1123_subdomain.__wrapped__(value))


def dns1123_subdomain_with_underscore(value: str) -> list[str]:
    """As a subdomain, with underscores: a search domain of a resolver."""
    found = []
    if len(value.encode()) > SUBDOMAIN_MAX:
        found.append(max_length(SUBDOMAIN_MAX))
    if not _re_subdomain_underscore.match(value) or value.endswith("\n"):
        text = _SUBDOMAIN_TEXT.replace("characters, '-'", "characters, '_', '-'")
        found.append(regex_error(text, _SUBDOMAIN_UNDERSCORE, "example.com"))
    return found


def dns1035_label(value: str) -> list[str]:
    """RFC 1035 label (starts with a letter), at most 63 bytes."""
    found = []
    if len(value.encode()) > LABEL_MAX:
        found.append(max_length(LABEL_MAX))
    if not _re_label_1035.match(value) or value.endswith("\n"):
        found.append(regex_error(_LABEL_1035_TEXT, _LABEL_1035, "my-name", "abc-123"))
    return found


def wildcard_subdomain(value: str) -> list[str]:
    """``*.`` and a subdomain."""
    found = []
    if len(value.encode()) > SUBDOMAIN_MAX:
        found.append(max_length(SUBDOMAIN_MAX))
    if not _re_wildcard.match(value):
        found.append(regex_error(_WILDCARD_TEXT, rf"\*\.{_SUBDOMAIN}", "*.example.com"))
    return found


@lru_cache(maxsize=8192)
def _qualified_name(value: str) -> tuple[str, ...]:
    found: list[str] = []
    parts = value.split("/")
    if len(parts) == 2:
        prefix, name = parts
        if not prefix:
            found.append("prefix part " + empty())
        else:
            found += ["prefix part " + message for message in dns1123_subdomain(prefix)]
    elif len(parts) == 1:
        name = value
    else:
        return (
            "a qualified name "
            + regex_error(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    if not name:
        found.append("name part " + empty())
    elif len(name.encode()) > LABEL_MAX:
        found.append("name part " + max_length(LABEL_MAX))
    if not _re_qualified.match(name) or name.endswith("\n"):
        found.append("name part " + regex_error(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return tuple(found)


def qualified_name(value: str) -> list[str]:
    """``[prefix/]name``: label keys, annotation keys, taint keys, extended resources."""
    return list(_qualified_name(value) if len(value) <= LONGEST else _qualified_name.__wrapped__(value))


@lru_cache(maxsize=8192)
def _label_value(value: str) -> tuple[str, ...]:
    found = []
    if len(value.encode()) > LABEL_MAX:
        found.append(max_length(LABEL_MAX))
    if not _re_label_value.match(value) or value.endswith("\n"):
        found.append(regex_error(_LABEL_VALUE_TEXT, f"({_QUALIFIED})?", "MyValue", "my_value", "12345"))
    return tuple(found)


def label_value(value: str) -> list[str]:
    """A label's value, at most 63 bytes."""
    return list(_label_value(value) if len(value) <= LONGEST else _label_value.__wrapped__(value))


def path_segment(value: str) -> list[str]:
    """A name that can stand in a URL's path."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def port_number(value: Any) -> list[str]:
    """1 to 65535."""
    return [] if isinstance(value, int) and 1 <= value <= 65535 else [in_range(1, 65535)]


def port_name(value: str) -> list[str]:
    """An IANA service name: at most 15 characters, a letter at least, no ``--``."""
    found = []
    if len(value) > 15:
        found.append(max_length(15))
    if not _PORT_CHARACTERS.match(value):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _PORT_LETTER.search(value):
        found.append("must contain at least one letter (a-z)")
    if "--" in value:
        found.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        found.append("must not begin or end with a hyphen")
    return found


def env_var_name(value: str) -> list[str]:
    """A container's environment variable: any printable ASCII but ``=``."""
    if not value:
        return ["environment variable name " + empty()]
    if not _re_env_relaxed.match(value) or value.endswith("\n"):
        return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
    return []


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    found = []
    if len(value.encode()) > SUBDOMAIN_MAX:
        found.append(max_length(SUBDOMAIN_MAX))
    if not _re_config_key.match(value) or value.endswith("\n"):
        found.append(regex_error(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if value == ".":
        found.append("must not be '.'")
    elif value == "..":
        found.append("must not be '..'")
    elif value.startswith(".."):
        found.append("must not start with '..'")
    return found


def http_header_name(value: str) -> list[str]:
    """A header of an HTTP probe."""
    if not _re_header.match(value):
        text = "a valid HTTP header must consist of alphanumeric characters or '-'"
        return [regex_error(text, _HEADER, "X-Header-Name")]
    return []


def ip_address(value: str) -> list[str]:
    """IPv4 or IPv6 without zone, in a form that means one address only."""
    text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    if "%" in value:
        return [text]
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        plain = _without_leading_zeros(value)
        return ["must not have leading 0s"] if plain != value and not ip_address(plain) else [text]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return ["must not be an IPv4-mapped IPv6 address"]
    return []


def _without_leading_zeros(value: str) -> str:
    return re.sub(r"(?<![\da-fA-F:])0+(?=\d)", "", value)


def cidr(value: str) -> list[str]:
    """``address/bits``, without bits of a host: ambiguous ones are refused since v1.36."""
    text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    if "/" not in value or "%" in value:
        return [text]  # A zone is any text, and of no network.
    address, _, bits = value.partition("/")
    try:
        found = ipaddress.ip_network(value, strict=False)
    except ValueError:
        plain = _without_leading_zeros(value)
        return ["must not have leading 0s in IP or prefix length"] if plain != value and not cidr(plain) else [text]
    if not bits.isdigit():
        return [text]
    if bits != str(int(bits)):
        return ["must not have leading 0s in IP or prefix length"]
    if found.version == 6 and ipaddress.IPv6Address(address).ipv4_mapped:
        return ["must not have an IPv4-mapped IPv6 address"]
    if ipaddress.ip_address(address) != found.network_address:
        return ["must not have bits set beyond the prefix length"]
    return []


def percent(value: str) -> list[str]:
    """``20%``."""
    if not _re_percent.match(value):
        text = "a valid percent string must be a numeric string followed by an ending '%'"
        return [regex_error(text, _PERCENT, "1%", "93%")]
    return []


def as_prefix(value: str) -> str:
    """*value* as it is judged where more follows it: a dash at the end will not stand there."""
    return value[:-2] + "a" if len(value) > 1 and value.endswith("-") else value


SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Characters of generated names: no vowels, so no words."""
