"""Freezes an agent when too many of its execs fail within a minute."""

from clawker_plugin import Policy, Setting, export, freeze

WITHIN = 60_000


class FailedExecs(Policy):
    events = ["ExecExited"]
    settings = {
        "failures": Setting("integer", 5, "Failed execs within a minute that freeze the agent", minimum=1),
    }

    def evaluate(self, event, facts, settings, state):
        if event.body["code"] == 0:
            return []
        # The host counts events, whatever is in them; those that failed are ours to count.
        failed = [at for at in state.get("failed", []) if at > event.at - WITHIN] + [event.at]
        if len(failed) < settings["failures"]:
            state["failed"] = failed
            return []
        state["failed"] = []
        return [freeze(f"{len(failed)} execs failed within a minute, the last with code {event.body['code']}")]


WitWorld = export(FailedExecs())
