"""Name rules, against upstream's own examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api import names


@pytest.mark.parametrize("value", ["a", "ab", "a1", "a-b", "0", "123", "a" * 63])
def test_good_labels(value):
    assert names.dns1123_label(value) == []


@pytest.mark.parametrize("value", ["", "A", "-a", "a-", "a.b", "a_b", "a b", "a\n", "a" * 64, "ü"])
def test_bad_labels(value):
    assert names.dns1123_label(value)


def test_a_label_with_dots_is_told_so():
    assert names.dns1123_label("a.b") == ["must not contain dots"]


def test_texts_are_upstreams():
    assert names.dns1123_subdomain("A") == [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]
    assert names.dns1035_label("1a") == [
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation "
        "is '[a-z]([-a-z0-9]*[a-z0-9])?')"
    ]
    assert names.port_number(0) == ["must be between 1 and 65535, inclusive"]


@pytest.mark.parametrize("value", ["simple", "now-with-dashes", "1-starts", "a_b.c", "example.com/a", "1.2.3.4/5678"])
def test_good_qualified_names(value):
    assert names.qualified_name(value) == []


@pytest.mark.parametrize("value", ["", "-a", "a-", "a/b/c", "/a", "a/", "A.com/b", "a b", "x" * 64, "a\n"])
def test_bad_qualified_names(value):
    assert names.qualified_name(value)


@pytest.mark.parametrize(("value", "fine"), [("", True), ("a", True), ("A_b.c-1", True), ("-", False), ("a b", False)])
def test_label_values(value, fine):
    assert (names.label_value(value) == []) is fine


@pytest.mark.parametrize(
    ("value", "fine"), [("http", True), ("a-1", True), ("1", False), ("A", False), ("a--b", False)]
)
def test_port_names(value, fine):
    assert (names.port_name(value) == []) is fine


@pytest.mark.parametrize(("value", "fine"), [("a.b_C-1", True), ("..", False), ("..a", False), ("a/b", False)])
def test_config_keys(value, fine):
    assert (names.config_key(value) == []) is fine


@given(st.text(max_size=70))
def test_a_label_is_also_a_subdomain_and_a_path_segment(value):
    if not names.dns1123_label(value):
        assert not names.dns1123_subdomain(value)
        assert not names.path_segment(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10.0.0.0/8", ""),
        ("2001:db8::/64", ""),
        ("10.0.0.1/32", ""),
        ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
        ("2001:db8::1/64", "must not have bits set beyond the prefix length"),
        ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
        ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
        ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
        ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("10.0.0.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("10.0.0.0/255.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("fd00::%x -j ACCEPT/64", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
    ],
)
def test_ranges(value, text):
    assert names.cidr(value) == ([text] if text else [])
