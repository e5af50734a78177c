"""A `run_fn` that cannot be imported is refused before any component runs."""

import pytest

from cmclrec_tf.errors import InputError

pytestmark = pytest.mark.pipeline


def test_a_run_fn_that_does_not_exist(setting):
    with pytest.raises(InputError, match="pipeline.trainer.absent: it must be the import path"):
        setting.run(run_fn="pipeline.trainer.absent")
    for wrong in ("absent.run_fn", "pipeline.absent.run_fn", "run_fn", "", ".run_fn", "a b.c"):
        with pytest.raises(InputError, match="it must be the import path of a function"):
            setting.run(run_fn=wrong)


@pytest.mark.parametrize(
    ("text", "kind"), [("import absent_within", ModuleNotFoundError), ("1 +", SyntaxError)]
)
def test_a_run_fn_whose_module_is_broken(setting, tmp_path, monkeypatch, text, kind):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_{kind.__name__.lower()}"
    (tmp_path / f"{name}.py").write_text(f"{text}\n")
    with pytest.raises(InputError, match=f"{name}.run_fn: its module .*{kind.__name__}") as error:
        setting.run(run_fn=f"{name}.run_fn")
    assert isinstance(error.value.__cause__, kind)
