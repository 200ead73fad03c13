"""Atomic: all or nothing, packages taken back, and power that goes away in the middle."""

from __future__ import annotations

import pytest

from agent.errors import LocalMisuse
from agent.flash import CutMode, PowerCut, PowerLoss
from agent.nvm import Nvm
from protocols.omadm.model import Meta
from protocols.omadm.status import StatusCode, TreeError
from protocols.omadm.tree import Hooks, Tree
from tests.protocols.omadm.device_parts import SERVER, SHARED, make_nvm, small_tree
from tests.protocols.omadm.musts import musts

NODE = Meta(format="node")
BIN = Meta(format="bin")


class Package:
    """A sink that can take back what it has, or cannot."""

    def __init__(self, *, undoes: bool = True, loses_power: bool = False) -> None:
        self.undoes = undoes
        self.loses_power = loses_power
        self.told: list[str] = []
        self.octets = b""

    def begin(self, uri: str, size: int | None) -> None:
        self.told.append(f"begin {uri} {size}")
        self.octets = b""

    def data(self, chunk: bytes) -> None:
        if self.loses_power:
            raise PowerLoss("in the package's flash")
        self.octets += chunk

    def end(self) -> StatusCode:
        self.told.append("end")
        if self.octets == b"bad":
            raise TreeError(StatusCode.COMMAND_FAILED, "refused")
        return StatusCode.OK

    def abort(self) -> None:
        self.told.append("abort")

    def undo(self) -> bool:
        self.told.append("undo")
        return self.undoes


def test_a_package_goes_to_its_sink_and_not_into_the_tree() -> None:
    package = Package()
    tree = small_tree(hooks=Hooks(on_replace={"./Package": package}))
    before = tree.root
    assert tree.replace("./Package", b"octets", BIN) == 200
    assert tree.replace("./Package", "b2N0ZXRz", Meta(format="b64")) == 200
    assert package.octets == b"octets"
    assert package.told == ["begin ./Package 6", "end"] * 2
    assert tree.root is before
    with pytest.raises(TreeError):
        tree.replace("./Package", b"bad", BIN)


def test_a_large_object_is_judged_before_it_comes() -> None:
    package = Package()
    tree = small_tree(hooks=Hooks(on_replace={"./Package": package}))
    schema, sink = tree.check_write("./Package", add=False)
    assert sink is package
    assert schema.max_size == 1 << 20
    assert tree.check_write("./Box/one/c", add=True)[1] is None
    for uri, add, status in (
        ("./Box/one", False, 405),
        ("./Box/two", True, 405),
        ("./Fixed/Name", False, 405),
        ("./None", False, 404),
        ("./Box/one/a", True, 418),
        ("./Package?prop=Title", False, 405),
    ):
        with pytest.raises(TreeError) as caught:
            tree.check_write(uri, add=add)
        assert caught.value.status == status, uri


def test_committed_all_at_once() -> None:
    nvm = make_nvm()
    tree = small_tree(nvm=nvm)
    with tree.transaction() as transaction:
        tree.add("./Box/two", None, NODE)
        tree.add("./Box/two/a", "1")
        assert small_tree(nvm=nvm).root is SHARED.root, "nothing is stored before"
        transaction.commit()
    assert small_tree(nvm=nvm).get("./Box/two/a")[0].data == "1"
    assert transaction.roll_back() == frozenset(), "too late"
    assert tree.get("./Box/two/a")[0].data == "1"


@musts("DM-109")
def test_rolled_back_is_as_if_it_never_ran() -> None:
    nvm = make_nvm()
    tree = small_tree(nvm=nvm)
    tree.replace("./Box/note", "before")
    root, operations = tree.root, nvm._flash.operations
    transaction = tree.transaction()
    tree.replace("./Box/note", "inside")
    tree.delete("./Box/one")
    tree.replace("./Fixed/Lang?prop=ACL", "Get=*")
    assert transaction.roll_back() == frozenset()
    assert tree.root is root
    assert nvm._flash.operations == operations
    tree.replace("./Box/note", "after")
    assert small_tree(nvm=nvm).get("./Box/note")[0].data == "after"


def test_left_without_a_commit_it_is_rolled_back() -> None:
    tree = small_tree()
    root = tree.root
    with pytest.raises(TreeError), tree.transaction():
        tree.replace("./Box/note", "inside")
        tree.replace("./None", "x")
    assert tree.root is root
    with tree.transaction() as again:  # the next one may begin
        again.commit()


def test_one_at_a_time() -> None:
    tree = small_tree()
    with tree.transaction(), pytest.raises(LocalMisuse):
        tree.transaction()


@musts("DM-107")
def test_exec_cannot_be_taken_back_and_is_not_done() -> None:
    tree = small_tree(hooks=Hooks(on_execute={"./Run": lambda execution: StatusCode.OK}))
    with tree.transaction(), pytest.raises(TreeError) as caught:
        tree.execute("./Run")
    assert caught.value.status == 500
    assert tree.execute("./Run") == 200


@musts("DM-112")
@pytest.mark.parametrize(("undoes", "stuck"), [(True, set()), (False, {"./Package"})])
def test_packages_are_taken_back(undoes: bool, stuck: set[str]) -> None:
    package = Package(undoes=undoes)
    tree = small_tree(hooks=Hooks(on_replace={"./Package": package}))
    transaction = tree.transaction()
    tree.replace("./Package", b"octets", BIN)
    assert transaction.roll_back() == stuck
    assert package.told[-1] == "undo"


def test_a_commit_that_does_not_fit_is_rolled_back() -> None:
    nvm = make_nvm()
    tree = small_tree(nvm=nvm)
    tree.replace("./Box/note", "before")
    nvm.set("engine", "e", b"x" * 3950)
    transaction = tree.transaction()
    for name in "cdefgh":
        tree.add(f"./Box/one/{name}", "y" * 60)
    with pytest.raises(TreeError) as caught:
        transaction.commit()
    assert caught.value.status == 420
    assert transaction.roll_back() == frozenset()
    assert tree.get("./Box/one")[0].data == "a/b"
    assert small_tree(nvm=nvm).get("./Box/note")[0].data == "before"


def test_a_power_cut_inside_touches_nothing_on_its_way_out() -> None:
    """The device is off when the exception passes: a sink must not be told to undo."""
    package = Package(loses_power=True)
    tree = small_tree(nvm=make_nvm(), hooks=Hooks(on_replace={"./Package": package}))
    with pytest.raises(PowerLoss), tree.transaction():
        tree.replace("./Box/note", "inside")
        tree.replace("./Package", b"octets", BIN)
    assert "undo" not in package.told


def _atomic(nvm: Nvm, round: int) -> Tree:
    tree = small_tree(nvm=nvm)
    with tree.transaction() as transaction:
        for name in ("a", "b"):
            tree.replace(f"./Box/one/{name}", f"{round}")
        tree.replace("./Box/note", "n" * 60 + f"{round}")
        transaction.commit()
    return tree


@musts("DM-109")
@pytest.mark.parametrize("mode", list(CutMode))
def test_power_cut_at_every_operation_leaves_all_or_nothing(mode: CutMode) -> None:
    """Thirty Atomics in a row, so that the log of the storage is compacted on the way too."""
    rounds = range(30)
    probe = make_nvm()
    for number in rounds:
        _atomic(probe, number)
    total = probe._flash.operations
    assert total > 30
    for operation in range(1, total + 1):
        nvm = make_nvm()
        nvm._flash.arm(operation, PowerCut(mode, operation))
        done = -1
        try:
            for number in rounds:
                _atomic(nvm, number)
                done = number
        except PowerLoss:
            pass
        tree = Tree(SHARED, Nvm(nvm._flash), server_id=SERVER)
        found = {str(tree.value(f"./Box/one/{name}")) for name in ("a", "b")}
        note = str(tree.value("./Box/note"))
        if found == {"1", "2"}:
            assert (done, note) == (-1, "first"), "before the first one"
            continue
        (number_found,) = found
        assert note == "n" * 60 + number_found
        assert int(number_found) in (done, done + 1), (operation, mode)
