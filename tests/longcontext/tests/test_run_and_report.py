"""The command, from a suite to a page, against a service that answers from the prompt."""

import csv
import json

import grpc
import pytest
from conftest import FakeInference, served
from kvec_eval import cli
from kvec_eval.prompts import Prompt
from kvec_eval.service import likeliest

SUITE = """name: small
prompt_tokens: [3000]
tasks: {key_value: 3, value_key: 2, continuation: 1}
"""
CELLS = 1 + 2 * 2  # full, and two policies with two budgets


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(target, *flags) → (exit code, standard error) of kvec-eval run."""
    def call(target, *flags, policies="full,snapkv,kvec", text=SUITE):
        (tmp_path / "small.yaml").write_text(text)
        monkeypatch.setattr("sys.argv", [
            "kvec-eval", "run", str(tmp_path / "small.yaml"), "--target", target, "--policies",
            policies, "--budgets", "64,128", "--out", str(tmp_path / "out"), *flags])
        return cli.main(), capsys.readouterr().err

    return call


def answers(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out/answers.jsonl").read_text().splitlines()]


def test_every_prompt_is_answered_under_every_policy_and_budget(run, target, inference, tmp_path):
    assert run(target)[0] == 0
    assert len(inference.generated) == 6 * CELLS
    assert inference.generated.count(("full", None)) == 6
    assert inference.generated.count(("kvec", 128)) == 6
    assert all(answer["usage"]["layers"] for answer in answers(tmp_path))


def test_a_second_run_asks_nothing_and_a_wider_one_only_what_is_new(run, target, inference):
    run(target, policies="full,snapkv")
    inference.generated.clear()
    assert run(target, policies="full,snapkv")[0] == 0
    assert inference.generated == []
    run(target, policies="full,snapkv,kvec")
    assert {policy for policy, _ in inference.generated} == {"kvec"}


def test_half_a_line_of_a_killed_run_is_asked_again(run, target, inference, tmp_path):
    run(target)
    path = tmp_path / "out/answers.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    inference.generated.clear()
    assert run(target)[0] == 0
    assert len(inference.generated) == 1
    assert len(answers(tmp_path)) == 6 * CELLS


def test_a_folder_of_other_weights_is_refused(run, target, inference):
    run(target)
    inference.fingerprint = "others"
    code, error = run(target)
    assert code == 1
    assert "holds a run with fingerprint weights, not others" in error


def test_targets_share_the_prompts(run, target, inference):
    second = FakeInference()
    with served(second) as other:
        assert run(f"{target},{other}")[0] == 0
    assert len(inference.generated) + len(second.generated) == 6 * CELLS
    assert inference.generated and second.generated


def test_targets_of_different_weights_are_refused(run, target):
    with served(FakeInference("others")) as other:
        code, error = run(f"{target},{other}")
    assert code == 1
    assert f"--target {other}: serves fake, other weights" in error


@pytest.mark.parametrize("failure", [grpc.StatusCode.UNAVAILABLE,
                                     grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_passing_failures_are_retried(run, target, inference, failure):
    inference.failures, inference.failure = 2, failure
    assert run(target)[0] == 0
    assert len(inference.generated) == 6 * CELLS


def test_other_failures_are_told_and_cost_no_other_answer(run, target, inference):
    inference.failures, inference.failure = 1, grpc.StatusCode.INVALID_ARGUMENT
    code, error = run(target)
    assert code == 1
    assert "key_value-3000-0: " in error
    assert "INVALID_ARGUMENT: prompt: not today" in error
    assert len(inference.generated) == 5 * CELLS


def test_prompts_of_a_target_that_is_gone_go_to_the_others(run, target, inference):
    gone = FakeInference()
    gone.failures = 1000
    with served(gone) as other:
        code, error = run(f"{other},{target}", "--retry-seconds", "0")
    assert code == 1  # told, though nothing is missing
    assert "UNAVAILABLE" in error
    assert len(inference.generated) == 6 * CELLS


def test_a_policy_that_the_service_lacks_is_named(run, target):
    code, error = run(target, policies="full,h2o")
    assert code == 1
    assert "has no 'h2o'; it has full, kvec, snapkv" in error


def test_nobody_there_is_an_error_not_a_traceback(run):
    code, error = run("127.0.0.1:1", "--retry-seconds", "0")
    assert code == 1
    assert "127.0.0.1:1: UNAVAILABLE" in error


def report(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kvec-eval", "report", str(tmp_path / "out")])
    return cli.main()


def test_the_report_tells_scores_differences_and_coverage(run, target, tmp_path, monkeypatch):
    run(target)
    assert report(tmp_path, monkeypatch) == 0
    with open(tmp_path / "out/results.csv", encoding="utf-8") as file:
        rows = {(row["family"], row["policy"], row["budget"]): row for row in csv.DictReader(file)}
    assert float(rows["all", "full", ""]["score"]) == 1
    assert float(rows["all", "kvec", "64"]["score"]) < 0.5
    assert float(rows["all", "kvec", "64"]["coverage"]) == 0.5
    assert float(rows["continuation", "kvec", "64"]["nll"]) == 1
    with open(tmp_path / "out/comparisons.csv", encoding="utf-8") as file:
        rows = {(row["family"], row["budget"], row["baseline"]): row
                for row in csv.DictReader(file)}
    assert float(rows["all", "64", "snapkv"]["difference"]) == 0
    assert float(rows["all", "64", "full"]["adjusted_p"]) < 0.01
    markdown = (tmp_path / "out/report.md").read_text()
    assert "## kvec minus each policy" in markdown
    assert "## Every policy minus snapkv" in markdown
    assert "Perplexity / KL" in markdown


def test_every_policy_is_compared_with_full_and_snapkv_by_bootstrap(run, target, tmp_path,
                                                                   monkeypatch):
    run(target)
    report(tmp_path, monkeypatch)
    with open(tmp_path / "out/bootstrap.csv", encoding="utf-8") as file:
        rows = {(row["policy"], row["family"], row["budget"], row["baseline"]): row
                for row in csv.DictReader(file)}
    worse = rows["snapkv", "all", "64", "full"]
    assert float(worse["low"]) <= float(worse["difference"]) <= float(worse["high"]) < 0
    same = rows["kvec", "all", "128", "snapkv"]
    assert [float(same[field]) for field in ("difference", "low", "high")] == [0, 0, 0]


@pytest.mark.parametrize("stop_token", [None, ord("<")])
def test_later_turns_are_asked_of_the_cache_of_the_first(run, target, inference, tmp_path,
                                                        monkeypatch, stop_token):
    inference.stop_token = stop_token
    text = "name: small\nprompt_tokens: [3000]\nturns: 2\ntasks: {several_keys: 2}\n"
    assert run(target, text=text)[0] == 0
    assert len(inference.generated) == 2 * 2 * CELLS
    assert len(inference.sessions) == 2 * CELLS
    # What ends an answer is there once, whoever has written it.
    assert all(text.count("<end>") == 1 and "<<" not in text
               for _, text in inference.sessions.values())
    report(tmp_path, monkeypatch)
    with open(tmp_path / "out/results.csv", encoding="utf-8") as file:
        rows = {(row["family"], row["policy"]): row for row in csv.DictReader(file)}
    assert [float(rows[turn, "full"]["score"]) for turn in ("turn 1", "turn 2")] == [1, 1]
    assert float(rows["turn 2", "kvec"]["score"]) < 0.5
    assert rows["all", "full"]["prompts"] == "2"
    assert "| full | 2 | 1.000 ± 0.000" in (tmp_path / "out/report.md").read_text()


def test_the_page_needs_no_other_file(run, target, tmp_path, monkeypatch):
    run(target)
    report(tmp_path, monkeypatch)
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<svg") == 6
    for reference in ("<script", "<link", "src=", "url(http"):
        assert reference not in page


def test_a_folder_without_a_run_is_an_error(tmp_path, monkeypatch, capsys):
    assert report(tmp_path, monkeypatch) == 1
    assert "no run.json" in capsys.readouterr().err


def test_a_policy_carries_fields(run, target, inference):
    assert run(target, policies="full,kvec+second_reading+layer_allocation=uniform")[0] == 0
    assert inference.generated.count(("kvec", 64)) == 6
    caches = [cache for cache in inference.caches if cache.policy == "kvec"]
    assert all(cache.second_reading and cache.layer_allocation == "uniform" for cache in caches)
    code, errors = run(target, policies="full,kvec+no_such_field")
    assert code == 1
    assert "no_such_field" in errors


def test_a_question_asked_later_is_answered_by_the_likeliest_tokens():
    prompt = Prompt("a", "key_value", [1], [5, 6, 7], "x", scored_from=1, asked_ids=[3, 4])
    entries = [{"top": [[token, -0.1]]} for token in (9, 9, 0, 6, 7)]
    answer = likeliest(prompt, {"logprobs": entries, "usage": {}})
    assert (answer["token_ids"], answer["text"]) == ([0, 6, 7], "x")
    entries[-1] = {"top": [[8, -0.1]]}
    answer = likeliest(prompt, {"logprobs": entries, "usage": {}})
    assert (answer["token_ids"], answer["text"]) == ([0, 6, 8], "")


def test_what_lacks_its_data_is_told_and_costs_no_other_answer(run, target, inference, tmp_path):
    text = SUITE + "samples: {lm: 1}\n"
    code, error = run(target, text=text)
    assert (code, len(inference.generated)) == (1, 6 * CELLS)
    assert "data.samples: missing" in error
    (tmp_path / "mine.jsonl").write_text(json.dumps({
        "id": "a", "task": "lm", "context": "The number is ", "question": "", "answer_prefix": "",
        "answer": "17"}) + "\n")
    assert run(target, "--data", f"samples={tmp_path}/mine.jsonl", text=text)[0] == 0
    assert len(inference.generated) == 7 * CELLS


def test_a_task_of_ruler_goes_by_its_own_metric(run, target, tmp_path, monkeypatch):
    text = "name: small\nprompt_tokens: [3000]\ntasks: {niah_single_1: 2, vt: 1}\n"
    assert run(target, text=text)[0] == 0
    report(tmp_path, monkeypatch)
    with open(tmp_path / "out/results.csv", encoding="utf-8") as file:
        rows = {(row["family"], row["policy"]): row for row in csv.DictReader(file)}
    assert float(rows["niah_single_1", "full"]["score"]) == 1
    assert float(rows["niah_single_1", "kvec"]["score"]) == 0
    assert float(rows["vt", "full"]["score"]) == 0
