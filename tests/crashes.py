"""A test whose process dies is reported by name with the signal, once: xdist itself would run it again and again."""

import pytest
from xdist.scheduler import LoadFileScheduling


class OneCrashEach(LoadFileScheduling):
    """Gives back what a dead process had not finished, but for the test that it died of."""

    def remove_node(self, node):
        """The test that was running when a process died; None for a process that ended by itself."""
        left = self.assigned_work[node]
        crashed = next((test for unit in left.values() for test, done in unit.items() if not done), None)
        if crashed is not None:
            left[self._split_scope(crashed)][crashed] = True
        for scope in [scope for scope, unit in left.items() if all(unit.values())]:
            del left[scope]  # a process that is given nothing to run would never ask for more
        super().remove_node(node)
        return crashed

    def _assign_work_unit(self, node):
        """As xdist does, but a process that is dead, which is told next, leaves its share to others."""
        scope, unit = next(iter(self.workqueue.items()))
        try:
            super()._assign_work_unit(node)
        except OSError:
            del self.assigned_work[node][scope]
            self.workqueue[scope] = unit
            self.workqueue.move_to_end(scope, last=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return OneCrashEach(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem, report, sched):
    from simreg_core.lab.running.processes import way_of_death  # here: it takes seconds, and is rarely needed

    ended = report.node.gateway._io.popen.wait(timeout=60)
    report.longrepr = f"{crashitem} did not end: its process died by {way_of_death(ended)}"
