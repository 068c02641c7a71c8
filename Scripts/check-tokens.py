"""The checks of Scripts/check-tokens, which says what they prove. Not meant to be run by itself."""

import collections
import json
import pathlib
import sys
import unicodedata
import warnings

from joserfc import jws, jwt
from joserfc.jwk import OKPKey
from joserfc.util import urlsafe_b64decode

warnings.simplefilter("ignore")

# typ, iss, aud, longest life, and the claims besides the common ones: said here again, so that a change in Swift is seen.
PEOPLE = {"gen": "int64", "sid": "text"}
SETS = {
    "request": ("datasync-request+jwt", "datasync-branch", "datasync-cloud", 60,
                {"htm": "text", "htp": "text", "bod": "text", "ses": "int64?", "epo": "int32?", "cks": "texts?"}),
    "answer": ("datasync-answer+jwt", "datasync-cloud", "datasync-branch", 60,
               {"sta": "int64", "bod": "text", "tim": "int64", "oth": "text?"}),
    "key": ("datasync-key+jwt", "datasync-branch", "datasync-cloud", 60, {"fol": "text"}),
    "operators": ("datasync-operator+jwt", "datasync-cloud-people", "datasync-cloud-admin", 600, PEOPLE),
    "staff": ("datasync-staff+jwt", "datasync-branch-people", "datasync-branch-local", 600, PEOPLE),
}
COMMON = {"iss": "text", "aud": "text", "jti": "text", "iat": "int64", "exp": "int64", "sub": "text"}
LEEWAY = 60

# In what DataSync is stricter than RFC 7515, 7519 and 8725 ask, and why. Whatever else it refuses, the RFCs refuse as well.
STRICTER = {
    "another member in the header": "nothing is looked up by what a token says: no key of its own, no address of one, no crit",
    "typ spelled otherwise": "one spelling, without application/ and in small letters",
    "length of the token": "4,096 bytes at the most",
    "length of kid": "a key of ours has a name of 1 to 64 bytes",
    "a claim twice": "RFC 7519, section 4, leaves it to the parser to refuse it or to take the last one",
    "names of claims that look alike": "the same letters in two normal forms of Unicode are one name in Swift",
    "no text": "an escape that is half of a surrogate pair is no Unicode",
    "nested too deep": "32 levels, as in every message",
    "no strict JSON": "Python's reader takes NaN and Infinity",
    "nbf": "nobody makes it, and nobody would look at it",
    "aud as a list": "one audience, as a text",
    "a claim of another type": "of our own claims, which the RFCs know nothing of, and of numbers that are texts",
    "length of jti": "8 to 64 bytes",
    "times that are nobody's": "seconds from 1970 to the year 36812",
    "lifetime": "a minute between machines, ten for people, and none that ends before it begins",
}
# RFC 7519, section 4.1.4, allows "some small leeway", and leaves open whether its last second is inside: with DataSync it is, with joserfc not.
EDGE = "exp == now-60"
DEPTH = 32


def is_a(kind, value):
    if kind.endswith("?"):
        return value is None or is_a(kind[:-1], value)
    if kind == "text":
        return isinstance(value, str)
    if kind == "texts":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value in (float("inf"), float("-inf")):
        return False
    bits = int(kind[3:]) - 1
    return value == int(value) and -(1 << bits) <= value < 1 << bits


def media_type(text):
    text = str(text).lower()
    return text if "/" in text else "application/" + text


def by_the_rfcs(line):
    """The token's header and claims if a verifier that follows RFC 7515, 7519 and 8725 takes it; else raises."""
    typ, issuer, audience, _, _ = SETS[line["set"]]
    keys = {kid: OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x}) for kid, x in line["keys"].items()}
    registry = jws.JWSRegistry(algorithms=["EdDSA"], strict_check_header=False)
    # RFC 7515 asks for UTF-8; Python's reader knows other encodings by themselves.
    for part in line["token"].split(".")[:2]:
        json.loads(urlsafe_b64decode(part.encode()).decode("utf-8"))
    token = jwt.decode(line["token"], lambda signed: keys[signed.headers().get("kid")], registry=registry)
    if media_type(token.header.get("typ")) != media_type(typ):
        raise ValueError("typ")
    now = line["now"]
    is_edge = token.claims.get("exp") == now - LEEWAY
    jwt.JWTClaimsRegistry(
        now=now - 1 if is_edge else now, leeway=LEEWAY, iss={"essential": True, "value": issuer}, aud={"essential": True, "value": audience},
        sub={"essential": True, "allow_blank": True}, jti={"essential": True}, iat={"essential": True}, exp={"essential": True},
    ).validate(token.claims)
    return token.header, token.claims, is_edge


class Pairs(list):
    """The members of an object, with those that are there twice."""


def depth(value):
    if isinstance(value, Pairs):
        return 1 + max((depth(item) for _, item in value), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def texts(value):
    if isinstance(value, Pairs):
        for name, item in value:
            yield name
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def beyond_json(payload):
    """In what DataSync reads JSON more strictly than Python does."""
    def constant(_):
        raise ArithmeticError
    try:
        members = json.loads(payload.decode("utf-8"), object_pairs_hook=Pairs, parse_constant=constant)
    except ArithmeticError:
        yield "no strict JSON"
        return
    names = [name for name, _ in members]
    if len(set(names)) != len(names):
        yield "a claim twice"
    elif len({unicodedata.normalize("NFC", name) for name in names}) != len(names):
        yield "names of claims that look alike"
    if depth(members) > DEPTH:
        yield "nested too deep"
    if any(0xD800 <= ord(letter) < 0xE000 for text in texts(members) for letter in text):
        yield "no text"


def beyond(line, header, claims):
    """In what DataSync is stricter than the RFCs ask: the names of what this token does not keep."""
    typ, _, audience, longest, own = SETS[line["set"]]
    if set(header) != {"alg", "typ", "kid"}:
        yield "another member in the header"
    if header.get("typ") != typ:
        yield "typ spelled otherwise"
    if len(line["token"].encode()) > 4096:
        yield "length of the token"
    if not 1 <= len(header["kid"].encode()) <= 64:
        yield "length of kid"
    # What stands in the header twice is another member, where it says something else, or says nothing.
    yield from beyond_json(urlsafe_b64decode(line["token"].split(".")[1].encode()))
    if len(json.loads(urlsafe_b64decode(line["token"].split(".")[0].encode()), object_pairs_hook=Pairs)) != 3:
        yield "another member in the header"
    if "nbf" in claims:
        yield "nbf"
    if isinstance(claims.get("aud"), list):
        yield "aud as a list"
    if not all(is_a(kind, claims.get(name)) for name, kind in (COMMON | own).items()):
        yield "a claim of another type"
        return
    if not 8 <= len(claims["jti"].encode("utf-8", "surrogatepass")) <= 64:
        yield "length of jti"
    if not (0 <= claims["iat"] < 1 << 40 and 0 <= claims["exp"] < 1 << 40):
        yield "times that are nobody's"
    if not 0 < claims["exp"] - claims["iat"] <= longest:
        yield "lifetime"


def main():
    lines = [json.loads(text) for text in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    accepted, edges, stricter, wrong = collections.Counter(), 0, collections.Counter(), []
    for line in lines:
        if (line["typ"], line["iss"], line["aud"], line["lifetime"]) != SETS[line["set"]][:4]:
            wrong.append(("the endpoint expects something else than this script", line))
        reasons, refusal, is_edge = [], None, False
        try:
            header, claims, is_edge = by_the_rfcs(line)
            reasons = sorted(set(beyond(line, header, claims)))
        except Exception as error:
            refusal = f"{type(error).__name__}: {error}"
        if line["accepted"]:
            accepted[line["set"]] += 1
            edges += is_edge
            if refusal or reasons:
                wrong.append((f"DataSync takes it: {refusal or reasons}", line))
            elif line["claims"] != {name: claims[name] for name in COMMON | SETS[line["set"]][4] if claims.get(name) is not None}:
                wrong.append(("both take it, and read other claims", line))
        elif refusal is None:
            if reasons and all(reason in STRICTER for reason in reasons):
                stricter.update(reasons)
            else:
                wrong.append(("DataSync alone refuses it, for no reason that is known here", line))
    for name, count in sorted(stricter.items()):
        print(f"check-tokens: {count} refused beyond the RFCs: {name}: {STRICTER[name]}")
    print(f"check-tokens: {edges} taken at {EDGE}, where joserfc does not")
    for (reason, kind), count in collections.Counter((reason, line["kind"]) for reason, line in wrong).most_common(40):
        print(f"check-tokens: {count} of the kind '{kind}': {reason}", file=sys.stderr)
    for reason, line in wrong[:3]:
        print(f"check-tokens: for example: {json.dumps(line)}", file=sys.stderr)
    # A corpus that is too small would prove little.
    missing = sorted(set(STRICTER) - set(stricter)) + [name for name in SETS if accepted[name] < 100]
    if len(lines) < 5000 or missing or not edges:
        print(f"check-tokens: not everything is tried: {missing}", file=sys.stderr)
        wrong.append(("too few tokens", None))
    print(f"check-tokens: tokens={len(lines)} accepted={accepted.total()} disagreements={len(wrong)}")
    sys.exit(1 if wrong else 0)


main()
