"The measurement of a card: what is measured again, and what is said of it."
import json

import pytest

from flowtok import gpu


@pytest.fixture
def card(tmp_path, monkeypatch):
    "Parts of two rows each; what was measured, and the folder."
    measured = []
    def rows(part):
        def make():
            for row in ("first", "second"):
                measured.append((part, row))
                if broken and broken[:2] == (part, row): raise broken[2]
                yield row, dict(tflops=1.0)
        return make
    broken = None
    def measure(what=None, **options):
        nonlocal broken
        broken = what
        measured.clear()
        found = gpu.measure_card(tmp_path, "cpu", parts=("parity", "sampling"), progress=False, **options)
        return found, list(measured)
    monkeypatch.setattr(gpu, "_calls", lambda *args: {part: rows(part) for part in gpu.MEASURED})
    return measure, tmp_path


def test_parts_that_are_whole_are_not_measured_again(card):
    measure, _ = card
    found, done = measure()
    assert len(done) == 4 and set(found) == {"parity", "sampling"}
    assert measure() == (found, [])


def test_a_part_that_broke_keeps_its_rows_and_is_measured_again(card):
    measure, folder = card
    found, done = measure(("parity", "second", RuntimeError("the driver is gone")))
    assert found["parity"]["first"] == dict(tflops=1.0) and "the driver is gone" in found["parity"]["stopped"]["error"] and len(done) == 4
    found, done = measure()
    assert done == [("parity", "first"), ("parity", "second")] and "stopped" not in found["parity"]


def test_a_part_that_was_interrupted_goes_on(card):
    measure, folder = card
    with pytest.raises(KeyboardInterrupt): measure(("parity", "second", KeyboardInterrupt()))
    assert gpu.read_card(folder)["parity"]["first"] == dict(tflops=1.0)
    found, done = measure()
    assert ("parity", "second") in done and found["parity"]["whole"]


def test_a_good_row_is_not_replaced_by_one_that_was_left_out(card, monkeypatch):
    measure, folder = card
    with pytest.raises(KeyboardInterrupt): measure(("parity", "second", KeyboardInterrupt()))
    def late(): yield from (("first", dict(left_out="0 s were left")), ("second", dict(left_out="0 s were left")))
    monkeypatch.setattr(gpu, "_calls", lambda *args: dict.fromkeys(gpu.MEASURED, late))
    found = gpu.measure_card(folder, "cpu", parts=("parity",), progress=False)["parity"]
    assert found["first"] == dict(tflops=1.0) and "left_out" in found["second"]


def test_numbers_of_another_size_or_machine_are_not_taken_for_these(card):
    measure, folder = card
    measure()
    assert len(measure(sizes=gpu.Sizes())[1]) == 4
    file = folder/"parity.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(measured_on="another card")))
    assert {part for part, _ in measure(sizes=gpu.Sizes())[1]} == {"parity"}


def test_what_does_not_fit_into_the_minutes_is_said():
    assert gpu._row(lambda: 1/0, lambda: 10.0, 20) == dict(left_out="10 s were left")
    assert gpu._row(lambda: 1/0, lambda: 30.0, 20)["error"].startswith("ZeroDivisionError")
