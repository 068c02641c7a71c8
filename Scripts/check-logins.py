"""The measurement of Scripts/check-logins, which says what it shows. Not meant to be run by itself."""

import argparse
import http.client
import itertools
import json
import pathlib
import random
import statistics
import sys
import time

from programs import Programs, free_port

PASSWORD = "seven quiet kanarienvogel"
KINDS = ("known", "unknown", "disabled")
# From the fifth wrong password on the next is not looked at for a while.
TRIES_OF_ONE = 4
DIFFERENCE_MAX_MS = 5


class Cloud(Programs):
    """A cloud with people, as a process."""

    def __init__(self, work, programs):
        super().__init__(work, programs)
        self.http, self.admin = free_port(), free_port()
        (work / "datasync-cloud.yaml").write_text(
            f"storage: {{url: 'sqlite:./data.sqlite'}}\nlog: {{format: json}}\nhttp: {{port: {self.http}, trusted_proxies: '127.0.0.1'}}\n"
            f"admin: {{port: {self.admin}}}\n"
            "types:\n  - {id: 1, name: item, priority: 10, route: all, tables: [{table: item, key: [id], columns: [name]}]}\n")
        self.database(".", [("create table item (id bigint not null primary key, name varchar(20) not null)", [])])
        self.run("datasync-cloud", "init", where=".")
        self.run("datasync-cloud", "user", "add", "ada", "--role", "admin", "--password-stdin", where=".", text=PASSWORD + "\n")

    def add(self, names, state):
        """People with ada's password: hashing another for each would only take time."""
        copy = (
            "insert into sync_person (people, name, role, branches, password, state, created, changed) "
            "select people, ?, role, branches, password, ?, created, changed from sync_person where name = 'ada'")
        self.database(".", [(copy, [name, state]) for name in names])

    def serve(self):
        self.process = self.start("datasync-cloud", "serve", where=".", ready=f"http://127.0.0.1:{self.http}/ready")

    def processor_time(self):
        """Of the process, all its threads, in seconds."""
        # As clock_getcpuclockid(3) makes it of a process's id.
        return time.clock_gettime(~self.process.pid << 3 | 2)


def log_in(connection, name, address):
    """A wrong password: how long the refusal took, in milliseconds, and the answer."""
    body = json.dumps({"name": name, "password": "not the password of anybody"})
    begun = time.perf_counter()
    connection.request("POST", "/v1/login", body, {"content-type": "application/json", "x-forwarded-for": address})
    answer = connection.getresponse()
    text = answer.read()
    return (time.perf_counter() - begun) * 1000, (answer.status, text)


def measure(cloud, logins, chance):
    names = {kind: [f"{kind[:3]}{index:04d}" for index in range((logins - 1) // TRIES_OF_ONE + 2)] for kind in KINDS}
    for kind, state in (("known", "active"), ("disabled", "disabled")):
        cloud.add(names[kind], state)
    cloud.serve()
    times, worked, answers = {kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}, set()
    for number in range(-1, logins):
        kinds = list(KINDS)
        chance.shuffle(kinds)
        for kind in kinds:
            address = f"10.{KINDS.index(kind)}.{(number + 1) // 250}.{(number + 1) % 250 + 1}"
            # A connection of its own, made before the time is taken: one after a refusal is closed.
            connection = http.client.HTTPConnection("127.0.0.1", cloud.admin, timeout=60)
            connection.connect()
            # The first of each kind warms everything up, under a name that is not used again.
            name = names[kind][-1] if number < 0 else names[kind][number // TRIES_OF_ONE]
            work = cloud.processor_time()
            passed, answer = log_in(connection, name, address)
            connection.close()
            answers.add(answer)
            if number >= 0:
                times[kind].append(passed)
                worked[kind].append((cloud.processor_time() - work) * 1000)
    return times, worked, answers


def difference(times):
    """Of any two, the median within a turn, so that what the machine does meanwhile meets all alike; the largest."""
    pairs = itertools.combinations(KINDS, 2)
    return max(abs(statistics.median(a - b for a, b in zip(times[one], times[other]))) for one, other in pairs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--logins", type=int, required=True)
    options = parser.parse_args()
    cloud = Cloud(options.work, options.programs)
    try:
        times, worked, answers = measure(cloud, options.logins, random.Random(1))
    finally:
        cloud.stop()
    if len(answers) != 1 or next(iter(answers))[0] != 401:
        sys.exit(f"check-logins: the refusals are not alike: {answers}")
    for what, figures in (("passed", times), ("processor time", worked)):
        for kind in KINDS:
            quartiles = statistics.quantiles(figures[kind], n=4) if options.logins > 1 else figures[kind] * 3
            print(
                f"check-logins: {what}, {kind}: least {min(figures[kind]):.1f} ms, quartiles {' '.join(f'{value:.1f}' for value in quartiles)} ms",
                file=sys.stderr)
    # Who waits for the processor takes longer and works as much: where these two figures are far apart the machine was busy.
    print(f"check-logins: difference of processor time {difference(worked):.1f} ms", file=sys.stderr)
    medians = " ".join(f"{kind}={statistics.median(times[kind]):.1f}ms" for kind in KINDS)
    print(f"check-logins: {medians} difference={difference(times):.1f}ms")
    sys.exit(0 if difference(times) < DIFFERENCE_MAX_MS else 1)


if __name__ == "__main__":
    main()
