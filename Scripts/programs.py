"""Both programs as processes on this machine, for the checks beside this file. Not meant to be run by itself."""

import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Programs:
    """Programs of a build, each in a folder of its own within `work` with its configuration and its SQLite database."""

    def __init__(self, work, programs):
        self.work, self.programs, self.running = work, programs, []

    def run(self, program, *arguments, where, text=""):
        """A command, to its end: the last line that it prints."""
        result = subprocess.run(
            [self.programs / program, *map(str, arguments)], cwd=self.work / where, input=text, capture_output=True, text=True, timeout=600)
        if result.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(map(str, arguments))} ended with {result.returncode}: {result.stderr}")
        return result.stdout.strip().splitlines()[-1] if result.stdout.strip() else ""

    def start(self, program, *arguments, where, ready):
        """A program that goes on, once it says at `ready` that it is there."""
        log = open(self.work / where / "log", "wb")
        process = subprocess.Popen([self.programs / program, *arguments], cwd=self.work / where, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.running.append((process, self.work / where / "log"))
        for _ in range(3000):
            if process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(ready, timeout=5) as answer:
                    if answer.status == 200:
                        return process
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{program} did not start: {(self.work / where / 'log').read_text()[-2000:]}")

    def stop(self):
        for process, _ in self.running:
            if process.poll() is None:
                process.terminate()
        for process, _ in self.running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def crashed(self):
        """What ended, or said that it had to stop, though nobody had told it to."""
        return [log.read_text()[-3000:] for process, log in self.running if process.poll() is not None]

    def database(self, where, statements):
        connection = sqlite3.connect(self.work / where / "data.sqlite", timeout=30)
        for statement, values in statements:
            connection.execute(statement, values)
        connection.commit()
        connection.close()
