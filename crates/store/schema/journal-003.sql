-- What became of an exec is asked for by its id, over restarts of the control plane.
CREATE INDEX journal_by_exec ON journal (agent, body ->> '$.exec') WHERE kind IN ('ExecStarted', 'ExecExited');
