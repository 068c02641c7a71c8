"""The checks of Scripts/check-api, which says what they prove. Not meant to be run by itself."""

import argparse
import base64
import collections
import concurrent.futures
import gzip
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import re
import secrets
import signal
import sys
import time
import traceback
import warnings

import hypothesis
import requests
import schemathesis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance
from requests.adapters import HTTPAdapter

from programs import Programs, free_port

warnings.simplefilter("ignore")

PASSWORD = "seven quiet kanarienvogel"
# Branches: one whose agent runs, one whose key the checks have, one that is suspended, one for openings that look like clones, and two
# that administrators play with. Numbers that nobody hits by chance.
RUNNING, OURS, SUSPENDED, CLONED, SPARE, INVITED = range(1700000001, 1700000007)
TYPES = "types:\n  - {id: 1, name: item, priority: 10, route: all, tables: [{table: item, key: [id], columns: [name]}]}\n"
LIMITS = "log: {format: json}\nlimits: {retry_delays: '100ms, 100ms'}\n"

# What looks at a password takes one hash, and that takes long: few of each.
HASHING = {"login", "setup", "changePassword", "addUser", "setPassword", "logout"}


# MARK: - The company


class Company(Programs):
    """Both programs with their databases, as processes."""

    def __init__(self, work, programs):
        super().__init__(work, programs)
        self.http, self.admin, self.local, self.health = (free_port() for _ in range(4))

    def open(self):
        for name in ["cloud", *(f"branch-{branch}" for branch in (RUNNING, OURS, SUSPENDED, CLONED, SPARE))]:
            (self.work / name).mkdir()
            # A name that the cloud has room for is too long for this branch.
            width = 10 if name == f"branch-{RUNNING}" else 20
            self.database(name, [(f"create table item (id bigint not null primary key, name varchar({width}) not null)", [])])
        common = f"storage: {{url: 'sqlite:./data.sqlite'}}\n{LIMITS}{TYPES}"
        (self.work / "cloud/datasync-cloud.yaml").write_text(f"http: {{port: {self.http}}}\nadmin: {{port: {self.admin}}}\n{common}")
        self.run("datasync-cloud", "init", where="cloud")
        setup = {"cloud": self.run("datasync-cloud", "user", "setup", where="cloud")}
        self.start("datasync-cloud", "serve", where="cloud", ready=f"http://127.0.0.1:{self.http}/ready")
        for branch in (RUNNING, OURS, SUSPENDED, CLONED, SPARE):
            where = f"branch-{branch}"
            ports = f"local: {{port: {self.local}}}\nhealth: {{port: {self.health}}}\n" if branch == RUNNING else ""
            cloud = f"cloud: {{url: 'http://127.0.0.1:{self.http}'}}\nschedule: {{interval: 200ms}}\n"
            (self.work / where / "datasync-local.yaml").write_text(cloud + ports + common)
            self.run("datasync-local", "init", where=where)
            token = self.run("datasync-cloud", "branch", "add", branch, f"Branch {branch}", where="cloud")
            self.run("datasync-local", "join", where=where, text=token + "\n")
        self.run("datasync-cloud", "branch", "suspend", SUSPENDED, where="cloud")
        self.run("datasync-cloud", "branch", "add", INVITED, "Invited", where="cloud")
        self.joins = []
        for branch in range(INVITED + 1, INVITED + 7):
            self.joins.append((branch, self.run("datasync-cloud", "branch", "add", branch, "Joins", where="cloud").split(".")[2]))
        here = f"branch-{RUNNING}"
        setup["local"] = self.run("datasync-local", "user", "setup", where=here)
        self.start("datasync-local", "run", where=here, ready=f"http://127.0.0.1:{self.health}/ready")
        # Records that arrive, and some that the other side has to refuse.
        for where, names in [(here, ["soap"] * 20 + ["a name that is too long for the cloud"] * 12), ("cloud", ["tea"] * 20 + ["too long there"] * 12)]:
            first = 1 if where == "cloud" else 1001
            insert = "insert into sync_data (business_type, data_from_detail, data_detail) values (1, ?, ?)"
            self.database(where, [
                (insert, [f"item:{first + index}", json.dumps({"upsert": {"id": first + index, "name": name}})]) for index, name in enumerate(names)])
        return setup

    def private_key(self, branch):
        folder = self.work / f"branch-{branch}"
        return serialization.load_pem_private_key((folder / "datasync.key").read_bytes(), None)


# MARK: - Tokens of branches


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(key, branch, path, body, session, **changes):
    """The token of one request, as `protocol.md` has it."""
    thumbprint = hashlib.sha256(public(key)).hexdigest()[:32]
    now = int(time.time())
    claims = {
        "iss": "datasync-branch", "aud": "datasync-cloud", "jti": secrets.token_hex(16), "iat": now, "exp": now + 60, "sub": str(branch), "htm": "POST",
        "htp": path, "bod": base64url(hashlib.sha256(body).digest()),
    }
    if session:
        claims |= {"ses": session["number"], "epo": session["epoch"]}
    claims |= changes
    header = {"alg": "EdDSA", "typ": changes.pop("typ", "datasync-request+jwt"), "kid": f"{branch}-{thumbprint}"}
    claims.pop("typ", None)
    content = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return content + "." + base64url(key.sign(content.encode()))


def public(key):
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


# MARK: - Asking


def is_right(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


class AnyLoopback(HTTPAdapter):
    """From one of the sixteen million addresses of this machine: attempts are counted for each."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, **options, source_address=(self.address, 0))


class Results:
    def __init__(self, name):
        self.name, self.cases, self.busy = name, 0, 0
        self.statuses, self.failures, self.examples = collections.defaultdict(collections.Counter), collections.Counter(), {}

    def fail(self, label, mode, what, example):
        key = (self.name, label, mode, what)
        self.failures[key] += 1
        self.examples.setdefault(key, example)


class Asker:
    """Asks for everything of one document, as everybody, and judges what comes back."""

    def __init__(self, document, base, company, seed):
        self.schema = schemathesis.openapi.from_path(document)
        self.base, self.company, self.seed = base, company, seed
        self.results = Results(pathlib.Path(document).name)
        self.session = requests.Session()
        self.addresses = random.Random(f"{seed} {document}")

    # Of the edges of a message beyond the first ones.
    SHARE = 1

    def modes(self, operation):
        """Who asks, as names."""
        raise NotImplementedError

    def prepare(self, operation, case, mode, chance):
        """Puts in what is there, such as a record's id, where chance would never hit it."""

    def authorize(self, request, operation, mode, chance):
        raise NotImplementedError

    def allowed(self, operation, mode):
        """Whether somebody may be let in."""
        raise NotImplementedError

    def after(self, operation, mode, request, response):
        """Takes note of what an answer has changed."""

    address = None

    def some_address(self):
        return self.address or "127." + ".".join(str(self.addresses.randrange(1, 255)) for _ in range(3))

    def operations(self):
        return [result.ok() for result in self.schema.get_all_operations()]

    def all(self):
        for operation in self.operations():
            self.ask(operation)
        return self.results

    def counts(self, operation, mode):
        """How many right requests, and wrong ones, are made up besides those that follow from the document."""
        if self.name_of(operation) == "logout":
            return 0, 0
        return (1, 1) if self.name_of(operation) in HASHING else (4, 4)

    def name_of(self, operation):
        return operation.definition.raw["operationId"]

    def ask(self, operation):
        name = self.name_of(operation)
        chance = random.Random(f"{self.seed} {operation.label}")
        # What schemathesis derives from the document itself, its edges above all. Who is sent away whatever is asked asks less.
        covered = 0
        for number, case in enumerate(self.schema.iter_coverage_cases(
            operation, generation_modes=list(GenerationMode), generation_config=self.schema.config.generation_for(operation=operation))):
            covered += is_right(case)
            for mode in self.modes(operation):
                if self.allowed(operation, mode):
                    if not (name in HASHING and is_right(case) and covered > 2 or name == "logout" and number > 1) and (number < 40 or chance.random() < self.SHARE):
                        self.one(operation, case, mode, chance)
                elif number == 0 or chance.random() < 0.2:
                    self.one(operation, case, mode, chance)
        # And what it makes up.
        has_input = bool(operation.body) or bool(operation.path_parameters) or bool(operation.query)
        for mode in self.modes(operation):
            for kind, count in zip(GenerationMode, self.counts(operation, mode)):
                if not count or not self.allowed(operation, mode) or kind == GenerationMode.NEGATIVE and not has_input:
                    continue

                @hypothesis.seed(self.seed)
                @hypothesis.settings(
                    max_examples=count, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck),
                    phases=[hypothesis.Phase.generate])
                @hypothesis.given(case=operation.as_strategy(generation_mode=kind))
                def run(case):
                    self.one(operation, case, mode, chance)

                try:
                    run()
                except (hypothesis.errors.Unsatisfiable, hypothesis.errors.InvalidArgument):
                    pass  # There is no wrong way to ask for some things.

    def send(self, request, operation):
        prepared = self.session.prepare_request(request)
        session = self.session
        if self.name_of(operation) in HASHING | {"refresh"}:
            session = requests.Session()
            session.mount("http://", AnyLoopback(self.some_address()))
        for attempt in (1, 2):
            try:
                return prepared, session.send(prepared, timeout=60, allow_redirects=False)
            except requests.ConnectionError:
                # The other side may have closed a connection that was kept, just as it was used again.
                if attempt == 2:
                    raise
                session.close()

    def one(self, operation, case, mode, chance):
        if case.method.upper() != operation.method.upper():
            return
        self.prepare(operation, case, mode, chance)
        try:
            fields = case.as_transport_kwargs(base_url=self.base)
            request = requests.Request(**fields)
            body = self.session.prepare_request(request).body or b""
            self.authorize(request, operation, mode, chance, body if isinstance(body, bytes) else body.encode())
        except (requests.exceptions.InvalidHeader, UnicodeError, ValueError):
            return  # It cannot be sent at all.
        results = self.results
        try:
            prepared, response = self.send(request, operation)
        except (requests.exceptions.InvalidHeader, UnicodeError):
            return
        except requests.RequestException as error:
            results.fail(operation.label, mode, "no answer", f"{request.method} {request.url} {fields.get('json')!r}: {error!r}")
            return
        results.cases += 1
        results.statuses[operation.label][f"{mode} {response.status_code}"] += 1
        example = (
            f"{prepared.method} {prepared.url} {(prepared.body or b'')[:600]!r} {dict(case.headers or {})}\n"
            f"    -> {response.status_code} {response.headers.get('content-type')} {response.content[:600]!r}")
        checks = [status_code_conformance, content_type_conformance, response_schema_conformance, not_a_server_error]
        documented = "503" in operation.definition.raw["responses"]
        if response.status_code == 503 and documented and error_of(response) == "busy":
            checks.remove(not_a_server_error)
            results.busy += 1
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            for failure in group.exceptions:
                results.fail(operation.label, mode, f"{failure.title}: {response.status_code}", f"{example}\n    {failure.message[:500]}")
        if response.ok and not self.allowed(operation, mode):
            results.fail(operation.label, mode, f"let in: {response.status_code}", example)
        self.after(operation, mode, prepared, response)


def error_of(response):
    try:
        return response.json().get("error")
    except (ValueError, AttributeError):
        return None


class Machines(Asker):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.stranger = Ed25519PrivateKey.generate()
        self.keys = {branch: self.company.private_key(branch) for branch in (OURS, SUSPENDED, CLONED)}
        self.state = None
        self.joined = iter(self.company.joins)
        self.joiner = None

    SHARE = 0.5
    SESSIONS = {"push", "pull", "acknowledge", "recover", "compare"}

    def modes(self, operation):
        if not operation.definition.raw.get("security", True):
            return ["nobody"]
        return ["nobody", "wrong", "branch", "suspended"]

    def counts(self, operation, mode):
        return (15, 10) if mode == "branch" else (2, 2)

    def allowed(self, operation, mode):
        return mode == "branch" or not operation.definition.raw.get("security", True)

    def open(self):
        """The newest session of our branch, and how far the cloud is with it."""
        question = {
            "protocol": 1, "nonce": secrets.token_hex(16), "software": "check-api", "host": "here",
            "types": [{"id": 1, "name": "item", "kind": "state", "route": "all"}], "log_epoch": 1, "cursors": [],
        }
        body = json.dumps(question).encode()
        token = signed(self.keys[OURS], OURS, "/v1/open", body, None)
        answer = self.session.post(f"{self.base}/datasync/v1/open", data=body, headers={"authorization": f"Bearer {token}", "content-type": "application/json"})
        answer.raise_for_status()
        self.state = answer.json()

    def prepare(self, operation, case, mode, chance):
        name, body = self.name_of(operation), case.body
        self.joiner = None
        if mode != "branch" or not isinstance(body, dict):
            return
        if name == "join" and is_right(case) and chance.random() < 0.5:
            branch, secret = next(self.joined, (INVITED, "0" * 32))
            self.joiner = (Ed25519PrivateKey.generate(), branch)
            body |= {"secret": secret, "public_key": base64url(public(self.joiner[0])), "software": "check-api"}
        if name == "open" and chance.random() < 0.7:
            body |= {"protocol": 1, "nonce": secrets.token_hex(16), "host": "here"}
        if name == "open":
            # Machines that take turns are suspended: not ours.
            body["host"] = "here"
        if name == "key" and chance.random() < 0.5:
            key, old = Ed25519PrivateKey.generate(), hashlib.sha256(public(self.keys[OURS])).hexdigest()[:32]
            proof = signed(key, OURS, "", b"", None, typ="datasync-key+jwt", fol=old)
            body |= {"public_key": base64url(public(key)), "proof": proof}
        if name not in self.SESSIONS or chance.random() < 0.25:
            return
        self.open()
        state = self.state
        body["session"] = state["session"]
        if "log_epoch" in body:
            body["log_epoch"] = state["log_epoch"]
        if "epoch" in body:
            body["epoch"] = state["session"]["epoch"]
        if name == "compare":
            body["type"] = 1
        if name == "pull" and chance.random() < 0.7:
            body |= {"cursors": [{"type": 1, "number": 0}], "records_max": 100, "bytes_max": 1 << 20, "record_bytes_max": 1 << 20}
        if name == "push" and isinstance(body.get("runs"), list) and chance.random() < 0.7:
            at = next((position for position in state["positions"] if position["type"] == 1), {"number": 0})
            number = 5000 + chance.randrange(1000)
            detail = chance.choice([
                json.dumps({"upsert": {"id": number, "name": "soap"}}), json.dumps({"upsert": {"id": number, "name": "x" * 30}}), "{}", "no JSON",
                json.dumps({"delete": {"id": number}})])
            record = {"uid": secrets.token_hex(16), "key": f"item:{number}", "time": int(time.time() * 1000), "detail": detail}
            run = {"type": 1, "first": at["number"] + 1, "run": secrets.token_hex(8), "records": [record, {"void": True}]}
            if at["number"]:
                run["before"] = at["mark"]
            body["runs"] = [run] + body["runs"][:chance.randrange(2)]

    def authorize(self, request, operation, mode, chance, body):
        if mode == "nobody":
            request.headers.pop("Authorization", None)
            return
        path = re.sub(r"^.*?/datasync", "", request.url.split("?")[0])
        key, branch = self.joiner or ((self.keys[SUSPENDED], SUSPENDED) if mode == "suspended" else (self.keys[OURS], OURS))
        if mode != "branch" and self.name_of(operation) == "join":
            key = self.stranger
        session = None
        if self.name_of(operation) in self.SESSIONS:
            try:
                session = json.loads(body)["session"]
                session = {"number": int(session["number"]), "epoch": int(session["epoch"])}
            except (ValueError, KeyError, TypeError, OverflowError):
                session = {"number": 1, "epoch": 1}
        if request.headers.get("Content-Encoding") == "gzip" and body and chance.random() < 0.7:
            body = gzip.compress(body)
            request.json, request.data = None, body
            request.headers.setdefault("Content-Type", "application/json")
        if mode != "wrong":
            request.headers["Authorization"] = "Bearer " + signed(key, branch, path, body, session)
            return
        now = int(time.time())
        token = chance.choice([
            lambda: "", lambda: "x", lambda: "a.b.c", lambda: signed(self.stranger, branch, path, body, session), lambda: signed(key, RUNNING, path, body, session),
            lambda: signed(key, branch, path + "x", body, session), lambda: signed(key, branch, path, body + b" ", session),
            lambda: signed(key, branch, path, body, session, typ="JWT"), lambda: signed(key, branch, path, body, session, exp=now + 3600),
            lambda: signed(key, branch, path, body, session, iat=now - 3600, exp=now - 3540), lambda: signed(key, branch, path, body, session, sub="8"),
            lambda: signed(key, branch, path, body, session, aud="datasync-branch"), lambda: signed(key, branch, path, body, session, htm="GET"),
            lambda: signed(key, branch, path, body, session)[:-4],
        ])()
        request.headers["Authorization"] = chance.choice(["Bearer ", "Bearer ", "Bearer ", "bearer ", "Basic ", ""]) + token


class People(Asker):
    """One of the two listeners of people."""

    ROLES = ()
    PEOPLE = {}

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.tokens, self.refreshes, self.passwords = {}, {}, {}
        self.goats = ["goat-1", "goat-2"]
        self.added = 0

    def set_up(self, token, where):
        """The first administrator comes by HTTP. The others have the same password, so that no more hashes need be made."""
        answer = self.plain("setup", {"token": token, "name": self.PEOPLE["admin"], "password": PASSWORD})
        assert answer.status_code == 204, answer.text
        copy = (
            "insert into sync_person (people, name, role, branches, password, state, created, changed) "
            "select people, ?, ?, ?, password, state, created, changed from sync_person where name = ?")
        others = [(name, role) for role, name in self.PEOPLE.items() if role != "admin"] + [(name, "viewer") for name in self.goats]
        scope = str(RUNNING) if self.PEOPLE is Operators.PEOPLE else None
        self.company.database(where, [(copy, [name, role, scope if role == "viewer" else None, self.PEOPLE["admin"]]) for name, role in others])
        for mode in self.PEOPLE:
            self.log_in(mode)

    def plain(self, path, body, token=None, method="POST"):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        session = requests.Session()
        session.mount("http://", AnyLoopback(self.some_address()))
        return session.request(method, f"{self.base}/v1/{path}", json=body, headers=headers, timeout=60)

    def log_in(self, mode):
        answer = self.plain("login", {"name": self.PEOPLE[mode], "password": self.passwords.get(mode, PASSWORD)})
        assert answer.status_code == 200, f"{mode}: {answer.status_code} {answer.text}"
        self.tokens[mode], self.refreshes[mode] = answer.json()["access_token"], answer.json()["refresh_token"]

    def get(self, path):
        answer = self.plain(path, None, self.tokens["admin"], "GET")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def modes(self, operation):
        if operation.definition.raw.get("security") == []:
            return ["anybody"]
        return ["nobody", "wrong", *self.PEOPLE]

    def counts(self, operation, mode):
        return (8, 8) if self.name_of(operation) == "refresh" else super().counts(operation, mode)

    def allowed(self, operation, mode):
        if mode in ("nobody", "wrong"):
            return False
        words = operation.definition.raw.get("description", "")
        return mode == "anybody" or "everybody" in words or mode in re.findall(r"\w+", words)

    def all(self):
        super().all()
        # Whoever guesses from one address is sent away after some time, with the time to wait.
        operation = next(operation for operation in self.operations() if self.name_of(operation) == "setup")
        self.address = "127.255.0.1"
        body = {"token": "dss1.guessed", "name": "nobody", "password": PASSWORD}
        statuses = self.results.statuses[operation.label]
        # What it may guess grows with the time that passes: more often where the machine is slow.
        for _ in range(400):
            if "guesser 429" in statuses:
                break
            self.one(operation, operation.Case(body=dict(body), media_type="application/json"), "guesser", random.Random(self.seed))
        if set(status for status in statuses if "guesser" in status) != {"guesser 401", "guesser 429"}:
            self.results.fail(operation.label, "guesser", "not sent away", str(dict(statuses)))
        return self.results

    def records(self):
        return [record["id"] for record in self.get("records?all=true")["records"]]

    def prepare(self, operation, case, mode, chance):
        name, body = self.name_of(operation), case.body if isinstance(case.body, dict) else None
        if case.path_parameters and chance.random() < 0.6:
            if "name" in case.path_parameters:
                case.path_parameters["name"] = chance.choice(self.goats)
            if "id" in case.path_parameters and self.allowed(operation, mode):
                case.path_parameters["id"] = chance.choice(self.records() or [1])
        if body is None or mode == "wrong" or not is_right(case):
            return
        is_meant = chance.random() < 0.6 or name in HASHING and case.meta.phase.name == TestPhase.COVERAGE
        if name == "login" and is_meant:
            body |= {"name": self.PEOPLE["admin"], "password": PASSWORD}
        elif name == "refresh" and is_meant:
            body["refresh_token"] = self.refreshes["viewer"]
        elif name == "changePassword" and is_meant and mode == "viewer":
            body |= {"old": self.passwords.get(mode, PASSWORD), "new": PASSWORD + secrets.token_hex(4)}
        elif name == "addUser" and is_meant:
            self.added += 1
            body |= {"name": f"goat-{self.added}{self.added}", "role": "viewer", "password": PASSWORD}
            body.pop("branches", None)
        elif name == "setPassword" and is_meant:
            body["password"] = PASSWORD
        elif name == "setRole" and is_meant:
            body["role"] = chance.choice(["viewer", "operator"])
            body.pop("branches", None)
        elif name == "putRecord" and is_meant:
            number = 9000 + chance.randrange(1000)
            body |= {"type": 1, "key": f"item:{number}", "payload": {"upsert": {"id": number, "name": "tea"}}}
            body.pop("to", None)
        elif name == "retireKey":
            body["force"] = True

    def authorize(self, request, operation, mode, chance, body):
        request.headers.pop("Authorization", None)
        if mode in self.tokens:
            request.headers["Authorization"] = "Bearer " + self.tokens[mode]
        if mode == "wrong":
            good = self.tokens["admin"]
            request.headers["Authorization"] = chance.choice([
                "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", f"bearer {good}", f"Basic {good}", good, f"Bearer {good[:-4]}", f"Bearer {good}=", f"Bearer {self.foreign}",
                "Bearer " + ".".join(good.split(".")[::-1]), f"Bearer {good} {good}",
            ])

    foreign = "x"

    def after(self, operation, mode, request, response):
        name = self.name_of(operation)
        if name == "changePassword" and response.status_code == 204:
            self.passwords[mode] = json.loads(request.body)["new"]
        if name in ("changePassword", "logout") and response.status_code == 204:
            self.log_in(mode)
        if name == "refresh" and response.status_code == 200 and b"refresh_token" in (request.body or b""):
            self.refreshes["viewer"] = response.json()["refresh_token"]
            self.tokens["viewer"] = response.json()["access_token"]
        elif name == "refresh" and response.status_code == 401 and self.refreshes["viewer"] in str(request.body):
            self.log_in("viewer")


class Operators(People):
    PEOPLE = {"admin": "chief-ada", "operator": "clerk-bob", "viewer": "watcher-cy"}

    def prepare(self, operation, case, mode, chance):
        super().prepare(operation, case, mode, chance)
        name = self.name_of(operation)
        if case.path_parameters and "branch" in case.path_parameters and chance.random() < 0.7:
            case.path_parameters["branch"] = RUNNING if name == "showBranch" and mode == "viewer" else chance.choice([SPARE, SPARE, INVITED])
        if case.query and "noted" in case.query and chance.random() < 0.5:
            case.query["noted"] = self.get("audit/verify").get("head", "x")
        if name == "retireKey" and mode == "admin":
            # The branch whose agent runs is to know the present key first.
            for _ in range(600):
                if RUNNING not in self.get("key")["unaware"]:
                    break
                time.sleep(0.1)


class Staff(People):
    PEOPLE = {"admin": "chief-ada", "operator": "clerk-bob", "viewer": "watcher-cy", "application": "till-one"}


# MARK: - All of it

# What a run does not get to.
UNREACHED = {
    "POST /v1/setup": "there is an administrator; the first one came by it, before all else",
}


def work(make, pipe):
    begun = time.monotonic()
    try:
        asker = make()
        results = asker.all()
        for operation in asker.operations():
            statuses = results.statuses[operation.label]
            if not any(re.search(r" 2\d\d$", status) for status in statuses) and operation.label not in UNREACHED:
                results.fail(operation.label, "-", "nobody ever succeeded", str(dict(statuses)))
        pipe.send((results.cases, results.busy, {key: dict(value) for key, value in results.statuses.items()}, results.failures, results.examples, time.monotonic() - begun))
    except BaseException:
        pipe.send(traceback.format_exc())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--docs", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    company = Company(options.work, options.programs)
    begun = time.monotonic()
    try:
        setup = company.open()
        asked = (options.seed,)
        machines = lambda: Machines(options.docs / "openapi.yaml", f"http://127.0.0.1:{company.http}", company, *asked)
        operators = Operators(options.docs / "openapi-admin.yaml", f"http://127.0.0.1:{company.admin}", company, *asked)
        staff = Staff(options.docs / "openapi-local.yaml", f"http://127.0.0.1:{company.local}", company, *asked)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            ready = [pool.submit(operators.set_up, setup["cloud"], "cloud"), pool.submit(staff.set_up, setup["local"], f"branch-{RUNNING}")]
            for one in ready:
                one.result()
        operators.foreign, staff.foreign = staff.tokens["admin"], operators.tokens["admin"]
        for asker in (operators, staff):
            for _ in range(3000):
                if sum(record["is"] == "dead" for record in asker.get("records")["records"]) >= 12:
                    break
                time.sleep(0.1)
            else:
                raise RuntimeError(f"no records died: {asker.get('records')}")
        print(f"check-api: the company is there after {time.monotonic() - begun:.0f} s", file=sys.stderr)
        pipes = []
        for make in (machines, lambda: operators, lambda: staff):
            mine, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=work, args=(make, theirs), daemon=True)
            process.start()
            pipes.append(mine)
        cases, busy, failures = 0, 0, 0
        for pipe in pipes:
            result = pipe.recv()
            if isinstance(result, str):
                print(f"check-api: {result}", file=sys.stderr)
                failures += 1
                continue
            count, waited, statuses, wrong, examples, seconds = result
            cases, busy, failures = cases + count, busy + waited, failures + wrong.total()
            if options.verbose:
                print(f"    {count} cases in {seconds:.0f} s", file=sys.stderr)
                for label, counts in statuses.items():
                    print(f"    {label}: {dict(sorted(counts.items()))}", file=sys.stderr)
            for key, number in sorted(wrong.items()):
                print(f"check-api: {number} × {', '.join(key)}\n    {examples[key]}", file=sys.stderr)
        for log in company.crashed():
            print(f"check-api: a program ended: {log}", file=sys.stderr)
            failures += 1
        if cases <= 2000:
            print("check-api: too few cases", file=sys.stderr)
            failures += 1
        if busy * 50 > cases:
            print(f"check-api: {busy} of {cases} answers were 'busy', though few ask at a time", file=sys.stderr)
            failures += 1
        print(f"check-api: {time.monotonic() - begun:.0f} s, {busy} times busy", file=sys.stderr)
        print(f"check-api: cases={cases} failures={failures}")
        sys.exit(1 if failures else 0)
    finally:
        company.stop()


main()
