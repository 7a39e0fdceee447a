"""The rules alone, without WebAssembly: `python3 -m unittest`."""

import unittest

from app import FailedExecs
from clawker_plugin import Session

FAILED = {"exec": "x", "code": 1}


class FailedExecsTest(unittest.TestCase):
    def test_the_fifth_failure_within_a_minute_freezes(self):
        session = Session(FailedExecs())
        said = [session.event("ExecExited", FAILED) for _ in range(5)]
        self.assertEqual(said, [[], [], [], [], ["freeze"]])

    def test_execs_that_went_well_do_not_count(self):
        session = Session(FailedExecs(), settings={"failures": 2})
        self.assertEqual(session.event("ExecExited", FAILED), [])
        self.assertEqual(session.event("ExecExited", {"exec": "y", "code": 0}), [])
        self.assertEqual(session.event("ExecExited", FAILED), ["freeze"])

    def test_failures_of_more_than_a_minute_ago_do_not_count(self):
        session = Session(FailedExecs(), settings={"failures": 2})
        self.assertEqual(session.event("ExecExited", FAILED, at=1_000), [])
        self.assertEqual(session.event("ExecExited", FAILED, at=62_000), [])


if __name__ == "__main__":
    unittest.main()
