"""Functions of the Kubernetes libraries. Facts from the test tables of k8s.io/apiserver ``pkg/cel/library``."""

from __future__ import annotations

import pytest

from orca.api.cel import CelError, Environment, compile
from orca.api.cel.libraries.authorization import Asker, Question, Verdict
from orca.api.cel.types import AUTHORIZER

_NOTHING = Environment({})


@pytest.mark.parametrize(
    "expression",
    [
        # lists
        "[1, 2, 2].isSorted() && ![2, 1].isSorted() && ['a', 'b'].isSorted()",
        "[1, 2, 3].sum() == 6 && [1.5, 1.5].sum() == 3.0 && [duration('1m'), duration('1s')].sum() == duration('61s')",
        "[3, 1, 2].min() == 1 && ['a', 'c'].max() == 'c'",
        "[1, 2, 2].indexOf(2) == 1 && [1, 2, 2].lastIndexOf(2) == 2 && [1].indexOf(5) == -1",
        "[3, 1].sort() == [1, 3] && [1, 2, 1].distinct() == [1, 2] && [1, 2].reverse() == [2, 1]",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && lists.range(3) == [0, 1, 2]",
        "[{'n': 2}, {'n': 1}].sortBy(x, x.n) == [{'n': 1}, {'n': 2}]",
        # strings
        "'tacocat'.charAt(3) == 'o' && 'tacocat'.charAt(7) == ''",
        "'tacocat'.indexOf('ac') == 1 && 'tacocat'.indexOf('none') == -1 && 'tacocat'.indexOf('a', 3) == 5",
        "'tacocat'.lastIndexOf('at') == 5 && ''.lastIndexOf('') == 0",
        "['x', 'y'].join() == 'xy' && ['x', 'y'].join(' ') == 'x y'",
        "'TacoCÆt'.lowerAscii() == 'tacocÆt' && 'TacoCæt'.upperAscii() == 'TACOCæT'",
        "'12 days 12 hours'.replace('{0}', '2') == '12 days 12 hours'",
        "'{0} days {0} hours'.replace('{0}', '2', 1) == '2 days {0} hours'",
        "'hello'.split('') == ['h', 'e', 'l', 'l', 'o'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']"
        " && 'a'.split(',', 0) == []",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco'",
        "' \\t\\ntrim\\u00a0'.trim() == 'trim'",
        "'%s %d %.2f %x %X %b %o %%'.format([dyn('a'), dyn(1), dyn(1.5), dyn(255), dyn('hi'), dyn(5), dyn(8)])"
        " == 'a 1 1.50 ff 6869 101 10 %'",
        "'%s'.format([['a', 'b']]) == '[a, b]' && '%s'.format([{'b': 1, 'a': 2}]) == '{a: 2, b: 1}'",
        "strings.quote('a\\nb') == '\"a\\\\nb\"'",
        # regular expressions
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'1 2 3'.findAll('[0-9]') == ['1', '2', '3'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "'foobar'.matches('foo.*') && !'bar'.matches('^foo')",
        # URLs
        "url('https://user:pass@example.com:80/path?k=v1&k=v2').getHost() == 'example.com:80'",
        "url('https://example.com:80/').getHostname() == 'example.com'"
        " && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://[::1]:80/').getPort() == '80' && url('/path').getScheme() == ''",
        "url('https://example.com/with space/').getEscapedPath() == '/with%20space/'",
        "url('https://example.com/?k=a&k=b').getQuery()['k'] == ['a', 'b']",
        "isURL('https://example.com/x') && isURL('/x') && !isURL('x') && !isURL('https://a:b:c/') && !isURL('../x')",
        "url('https://example.com/') == url('https://example.com/')",
        # quantities
        "quantity('1Gi').isGreaterThan(quantity('1G'))",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('200M') == quantity('0.2G')",
        "quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('1k')) == quantity('49k')",
        "quantity('50k').asInteger() == 50000 && quantity('1500m').asApproximateFloat() == 1.5",
        "!quantity('1500m').isInteger() && quantity('-1').sign() == -1 && quantity('0').sign() == 0",
        "isQuantity('1.3G') && !isQuantity('1.3Q') && !isQuantity('200K')",
        # addresses
        "isIP('192.168.0.1') && isIP('::1') && !isIP('192.168.0.1.0') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%a')",
        "ip('192.168.0.1').family() == 4 && ip('2001:db8::abcd').family() == 6",
        "ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD')",
        "ip('0.0.0.0').isUnspecified() && ip('127.0.0.1').isLoopback() && ip('224.0.0.1').isLinkLocalMulticast()",
        "ip('169.254.169.254').isLinkLocalUnicast() && ip('192.168.0.1').isGlobalUnicast()"
        " && string(ip('::1')) == '::1'",
        "!ip('255.255.255.255').isGlobalUnicast() && ip('ff02::1').isLinkLocalMulticast()",
        "isCIDR('192.168.0.0/24') && isCIDR('::1/128') && !isCIDR('192.168.0.0/33') && !isCIDR('10.0.0.0')",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && !cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))",
        "cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')"
        " && !cidr('192.168.0.0/24').containsCIDR('192.168.0.0/16')",
        "cidr('192.168.1.5/24').masked() == cidr('192.168.1.0/24') && cidr('192.168.1.5/24').prefixLength() == 24",
        "cidr('192.168.1.5/24').ip() == ip('192.168.1.5') && string(cidr('::/0')) == '::/0'",
        # versions
        "isSemver('1.0.0') && !isSemver('v1.0') && isSemver('v1.0', true) && semver('v01.01', true) == semver('1.1.0')",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.0.0-alpha').isLessThan(semver('1.0.0')) && semver('1.10.0').isGreaterThan(semver('1.9.0'))",
        "semver('1.0.0-alpha.1').compareTo(semver('1.0.0-alpha.beta')) == -1 && semver('1.0.0+a') == semver('1.0.0+a')",
        # formats
        "!format.dns1123Label().validate('my-label').hasValue()"
        " && format.dns1123Label().validate('my_label').hasValue()",
        "!format.dns1123LabelPrefix().validate('my-label-').hasValue()",
        "!format.named('uuid').value().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
        "!format.named('nothing').hasValue() && format.date().validate('2021-13-01').value() == ['invalid date']",
        "!format.datetime().validate('2021-01-01T00:00:00Z').hasValue()"
        " && !format.byte().validate('aGVsbG8=').hasValue()",
        "format.byte().validate('x*').value() == ['invalid base64']"
        " && !format.uri().validate('http://example.com').hasValue()",
        "!format.labelValue().validate('').hasValue() && !format.qualifiedName().validate('a.io/b').hasValue()",
        # sets
        "sets.contains([1, 2, 3], [2, 3]) && !sets.contains([1], [2]) && sets.contains([1], [])",
        "sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [2])",
        # patches
        "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
    ],
)
def test_holds(expression: str) -> None:
    assert compile(expression, _NOTHING).evaluate({}) is True


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("[1].slice(0, 2)", "cannot slice(0, 2), list is length 1"),
        ("'a'.charAt(2)", "index out of range: 2"),
        ("'a'.substring(2)", "index out of range: 2"),
        ("[1].filter(x, x > 1).min()", "min called on empty list"),
        ("quantity('abc')", "quantities must match the regular expression"),
        ("quantity('1.5').asInteger()", "cannot convert value to integer"),
        ("ip('x')", 'IP Address "x" parse error'),
        ("cidr('10.0.0.0')", "no '/'"),
        ("url('x')", "URL parse error during conversion from string"),
        ("semver('x')", "Invalid character(s) found"),
        ("'%d'.format(['a'])", "decimal clause can only be used on integers, was given string"),
        ("'%s'.format([])", "index 0 out of range"),
        ("'%z'.format([1])", 'unrecognized formatting clause "z"'),
    ],
)
def test_has_no_result(expression: str, text: str) -> None:
    with pytest.raises(CelError) as caught:
        compile(expression, _NOTHING).evaluate({})
    assert text in str(caught.value)


def test_authorizer_asks_what_is_said() -> None:
    asked: list[Question] = []

    def ask(question: Question) -> Verdict:
        asked.append(question)
        return Verdict(question.verb == "get", "because")

    environment = Environment({"authorizer": AUTHORIZER})
    expression = (
        "authorizer.group('apps').resource('deployments').subresource('status').namespace('a').name('b').check('get')"
        ".allowed() && !authorizer.serviceAccount('ns', 'sa').path('/healthz').check('post').allowed()"
        " && authorizer.path('/x').check('get').reason() == 'because'"
    )
    program = compile(expression, environment)
    from orca.api.cel import Budget

    budget = Budget()
    assert program.evaluate({"authorizer": Asker(ask)}, budget=budget, limit=2_000_000) is True
    assert asked == [
        Question(verb="get", group="apps", resource="deployments", subresource="status", namespace="a", name="b"),
        Question(account=("ns", "sa"), path="/healthz", verb="post"),
        Question(path="/x", verb="get"),
    ]
    # One evaluation may ask twice: a question costs 350,000.
    with pytest.raises(CelError, match="cost limit"):
        program.evaluate({"authorizer": Asker(ask)})
    with pytest.raises(CelError, match="path must not be empty"):
        compile("authorizer.path(' ').check('get').allowed()", environment).evaluate({"authorizer": Asker(ask)})
