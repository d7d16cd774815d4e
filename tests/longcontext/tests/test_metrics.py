"""Scores worked by hand from the published definitions."""

import pytest
from kvec_eval.metrics import METRICS


def score(metric, text, *references, classes=()):
    prompt = {"references": list(references), "classes": list(classes)}
    return METRICS[metric](prompt, text)


@pytest.mark.parametrize("text, references, expected", [
    ("The Red Harbor.", ["red harbor"], 1.0),
    ("in the red harbor", ["red harbor"], 2 * 2 / (3 + 2)),
    ("red red", ["red harbor"], 2 * 1 / (2 + 2)),
    ("blue", ["red harbor", "a blue one"], 2 * 1 / (1 + 2)),
    ("", ["red"], 0.0), ("the", ["the"], 0.0)])
def test_english_f1_counts_words_without_case_articles_and_punctuation(text, references, expected):
    assert score("qa_f1", text, *references) == pytest.approx(expected)


@pytest.mark.parametrize("text, reference, expected", [
    ("北京大学。", "北京大学", 1.0),
    ("他在北京", "北京", 2 * 1 / (3 + 1)),   # 他 / 在 / 北京
    ("上海", "北京", 0.0),
    ("《北京", "北京", 2 * 1 / (2 + 1)),      # the opening mark is a word, as published
    ("》北京", "北京", 1.0)])
def test_chinese_f1_counts_segmented_words(text, reference, expected):
    assert score("qa_f1_zh", text, reference) == pytest.approx(expected)


@pytest.mark.parametrize("metric, text, reference, expected", [
    ("rouge_l", "the cat sat", "the cat sat", 1.0),
    # Longest common subsequence: the cat mat, of 5 and 4 words.
    ("rouge_l", "the cat on a mat", "the cat likes mat", 2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4)),
    ("rouge_l", "", "the cat", 0.0), ("rouge_l", ".", "the cat", 0.0),
    ("rouge_l_zh", "他在北京", "北京", 2 * (1 / 3) * 1 / (1 / 3 + 1)),
    ("rouge_l_zh", "上海", "北京", 0.0)])
def test_rouge_l_is_the_f_of_the_longest_common_subsequence(metric, text, reference, expected):
    assert score(metric, text, reference) == pytest.approx(expected, abs=1e-6)


CLASSES = ["Number", "Other number", "City", "Date"]


@pytest.mark.parametrize("text, reference, expected", [
    ("City", "City", 1.0), ("City or Date", "City", 0.5), ("Date", "City", 0.0),
    ("Other number", "Other number", 1.0), ("none of them", "City", 0.0)])
def test_classification_shares_the_point_among_the_named_classes(text, reference, expected):
    assert score("classification_first_line", text, reference, classes=CLASSES) == expected


def test_a_class_within_the_name_of_the_right_one_does_not_count():
    assert score("classification_first_line", "location: place", "location: place",
                 classes=["location", "location: place"]) == 1


@pytest.mark.parametrize("text, reference, expected", [
    ("7", "7", 1.0), ("There are 7, not 17", "7", 0.5), ("seven", "7", 0.0), ("77", "7", 0.0)])
def test_count_is_the_share_of_right_numbers(text, reference, expected):
    assert score("count", text, reference) == expected


@pytest.mark.parametrize("text, reference, expected", [
    ("Paragraph 12", "Paragraph 12", 1.0), ("段落12", "段落12", 1.0),
    ("Paragraph 1 or 12", "Paragraph 12", 0.5), ("Paragraph 2", "Paragraph 12", 0.0)])
def test_retrieval_is_the_share_of_right_paragraphs(text, reference, expected):
    assert score("retrieval", text, reference) == expected


@pytest.mark.parametrize("text, reference, expected", [
    ("\nreturn a", "return a", 1.0),
    ("# next\n```python\nreturn a", "return a", 1.0),
    # 7 characters match, of 8 and 8.
    ("return b", "return a", 0.88),
    ("# nothing", "return a", 0.0)])
def test_code_similarity_is_of_the_first_line_of_code(text, reference, expected):
    assert score("code_similarity", text, reference) == pytest.approx(expected)


@pytest.mark.parametrize("metric, expected", [("qa_f1", 2 * 1 / (3 + 1)),
                                              ("qa_f1_first_line", 1.0)])
def test_few_shot_answers_end_with_their_line(metric, expected):
    assert score(metric, "\n\nParis\nQuestion: Rome", "Paris") == pytest.approx(expected)


def test_any_reference_may_be_the_right_one():
    assert score("qa_f1", "Rome", "Paris", "Rome") == 1


@pytest.mark.parametrize("text, all_of_them, any_of_them", [
    ("the 4711 and the 12", 1.0, 1.0), ("4711", 0.5, 1.0), ("17", 0.0, 0.0)])
def test_string_matches_are_of_all_or_of_any_reference(text, all_of_them, any_of_them):
    assert score("string_match_all", text, "4711", "12") == all_of_them
    assert score("string_match_part", text, "4711", "12") == any_of_them


def test_string_matches_do_not_look_at_case():
    assert score("string_match_all", "VAR abcde", "ABCDE") == 1
