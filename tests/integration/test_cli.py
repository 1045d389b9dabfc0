"""The command line with every picture."""

import json

from tests.test_cli import PNG, call


def test_lecture_writes_table_json_and_figures(tmp_path):
    results, figures = tmp_path / "new" / "results.json", tmp_path / "figures"
    done = call(
        *("lecture", "--only", "three_class", "--only", "manual_sigmoid"),
        *("--json", str(results), "--figures", str(figures), "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    assert "three_class" in done.output and ".9827/.9860 ✓ torch" in done.output
    assert str(figures) in done.output.replace("\n", "")
    records = json.loads(results.read_text())
    assert [record["experiment"] for record in records] == ["three_class", "manual_sigmoid"]
    assert (
        list(records[0])
        == (
            "experiment section seed published train_accuracy test_accuracy reports steps "
            "compile_seconds run_seconds device random precision devices processes"
        ).split()
    )
    assert records[0]["steps"] == 100 and len(records[1]["reports"]) == 10
    assert "precision: parity (float32, full matmul precision)" in done.output
    assert {record["precision"] for record in records} == {"parity"}
    pictures = sorted(figures.iterdir())
    drawn = (
        "codes confusion digits manual_sigmoid multinomial predictions sigmoid three_class weights"
    )
    assert [path.stem for path in pictures] == drawn.split()
    assert all(path.read_bytes().startswith(PNG) for path in pictures)
