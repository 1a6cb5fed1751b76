"""Jobs that are run in one transaction, as the pool does."""

from tests.worker.rig import at_work, leave, make_short


class Together:
    """Jobs that are run in one transaction."""

    def __init__(self, rig):
        self._rig = rig
        self.calls = []  # the names of the bodies, as they begin
        self.runs = {}

    def add(self, name, body=None, *, first=None, **options):
        """Enqueue and claim one that leaves an effect, and does more, or ``first`` something."""

        def whole_body(context):
            self.calls.append(name)
            if first:
                first()
            leave(name)
            return body() if body else None

        claim = self._rig.claim(self._rig.enqueue(whole_body, atomic=True, **options))
        self.runs[name] = self._rig.hold(claim)
        return claim

    def run(self):
        """Run them all, as the pool does, and record what is not recorded."""
        left = list(self.runs.values())
        while left:
            left = left[len(self.run_once(left)) :]

    def run_once(self, runs):
        """Run those that fit into one transaction; return their names."""
        for run in runs:
            make_short(run)
        ends = self._rig.shared.run(runs, at_work)
        for run, ran in ends:
            self._rig.finisher.put(run, ran)
        self._rig.finish_whatever_happens()
        return [name for name, run in self.runs.items() if run in dict(ends)]

    def states(self):
        """Return the states of their jobs by name."""
        return {
            name: str(self._rig.job(run.claim.job_id).state) for name, run in self.runs.items()
        }
