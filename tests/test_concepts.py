"""Words become the tokens they are inside a sentence, and what is dropped is said."""

import pytest
from tiny_models import WORDS

from headviz.base.errors import ConceptError, OptionError, UnknownName
from headviz.inputs.concepts import (
    MAX_WORDS,
    find_concept,
    in_sentence_ids,
    known_concepts,
    make_concept,
    token_texts,
    tokenize_concept,
)
from headviz.pursuit.dictionary import concept_dictionary, vocabulary_atoms, vocabulary_labels

pytest_plugins = ["loaded"]

MIXED = make_concept("mixed", ["red", "umpteen", "two", "red", " blue "])


def test_a_word_is_the_token_that_it_is_after_a_space(model):
    for word in WORDS["colors"]:
        assert in_sentence_ids(word, model.tokenizer) == (
            model.tokenizer.convert_tokens_to_ids(f"Ġ{word}"),
        )


def test_in_a_real_sentencepiece_vocabulary_too(shared_data):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_data / "stories260K")
    (token,) = in_sentence_ids("day", tokenizer)
    assert tokenizer.convert_ids_to_tokens(token) == "▁day"
    assert token_texts([token], tokenizer) == [" day"]
    assert token_texts([tokenizer.convert_tokens_to_ids("<0x0A>")], tokenizer)[0].strip("\n") == ""


def test_by_default_words_of_several_tokens_are_dropped_with_the_reason(model):
    tokens = tokenize_concept(MIXED, model.tokenizer)
    assert [w.word for w in tokens.kept] == ["red", "two", "blue"]
    (dropped,) = (w for w in tokens.words if not w.kept)
    assert dropped.word == "umpteen"
    assert dropped.why == f"{len(dropped.ids)} tokens"
    assert "".join(dropped.pieces) == " umpteen"
    assert not set(dropped.ids) & set(tokens.token_ids)


def test_all_pieces_are_atoms_of_their_own(llama):
    tokens = tokenize_concept(MIXED, llama.tokenizer, "all")
    atoms = vocabulary_atoms(llama)
    dictionary = concept_dictionary(atoms, tokens)
    pieces = [i for word in MIXED.words for i in in_sentence_ids(word, llama.tokenizer)]
    assert tokens.token_ids == tuple(dict.fromkeys(pieces))
    assert dictionary.labels == tuple(token_texts(tokens.token_ids, llama.tokenizer))
    assert dictionary.atoms.equal(atoms[list(tokens.token_ids)])


@pytest.mark.parametrize("normalise", [True, False])
def test_the_mean_of_a_words_pieces_is_one_atom(llama, normalise):
    tokens = tokenize_concept(MIXED, llama.tokenizer, "mean")
    atoms = vocabulary_atoms(llama, normalise)
    dictionary = concept_dictionary(atoms, tokens, normalise)
    assert dictionary.labels == MIXED.words
    mean = atoms[list(in_sentence_ids("umpteen", llama.tokenizer))].mean(0)
    place = MIXED.words.index("umpteen")
    expected = mean / mean.norm() if normalise else mean
    assert dictionary.atoms[place].allclose(expected, atol=1e-6)


def test_presets_are_files_with_a_title_line_then_a_word_a_line(assets):
    known = known_concepts()
    assert list(known) == ["colors", "numbers"]
    assert known["colors"].title == "Names of colors"
    assert known["colors"].words == (*WORDS["colors"], "umpteen")


def test_every_preset_that_ships_has_a_title_and_words():
    for name, concept in known_concepts().items():
        assert concept.title and concept.title != name
        assert len(concept.words) > 5


def test_an_unknown_concept_lists_the_known_ones_and_guesses(assets):
    with pytest.raises(UnknownName) as raised:
        find_concept("colour")
    assert str(raised.value) == (
        "Unknown concept 'colour'. Did you mean 'colors'? Known: colors, numbers. "
        "Add your own words, or a file assets/concepts/colour.txt."
    )


@pytest.mark.parametrize("name", [None, ""])
def test_no_concept_named_lists_the_known_ones(assets, name):
    with pytest.raises(UnknownName, match="Known: colors, numbers"):
        find_concept(name)


@pytest.mark.parametrize("words", ["", " , ,\n", [], ["", " "]])
def test_a_concept_without_words_is_refused(words):
    with pytest.raises(ConceptError, match=r"has no words\. Type some, separated by commas"):
        find_concept("mine", words)


def test_words_are_taken_from_commas_and_lines_each_once():
    assert find_concept("mine", " red,blue\n\nred , dark green").words == (
        "red",
        "blue",
        "dark green",
    )


def test_a_concept_without_a_usable_token_is_refused_with_a_way_out(llama):
    concept = make_concept("long words", ["umpteen", "zebras"])
    with pytest.raises(ConceptError, match=r"No word of 'long words' is a single token .*all or"):
        tokenize_concept(concept, llama.tokenizer)
    assert tokenize_concept(concept, llama.tokenizer, "all").kept


def test_an_unknown_choice_of_pieces_lists_the_known_ones(llama):
    with pytest.raises(OptionError, match=r"'some'\. Known: single, all, mean"):
        tokenize_concept(MIXED, llama.tokenizer, "some")


def test_five_thousand_words_are_refused_with_both_numbers():
    with pytest.raises(ConceptError, match=f"has 5000 words; at most {MAX_WORDS} are read"):
        make_concept("all of them", [f"word{n}" for n in range(5000)])


def test_half_a_character_is_no_word():
    with pytest.raises(ConceptError, match="is not valid Unicode text"):
        make_concept("odd", ["red", "\ud83d"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "colors.txt has no words"),
        (b"Only a title\n", "colors.txt has no words"),
        (b"Title\n\xff\xfe", "colors.txt is not UTF-8 text"),
    ],
    ids=["empty", "title only", "binary"],
)
def test_a_broken_preset_is_named(assets, content, message):
    (assets / "concepts" / "colors.txt").write_bytes(content)
    with pytest.raises(ConceptError, match=message):
        known_concepts()


def test_a_preset_of_windows_with_a_byte_order_mark_reads_the_same(assets):
    (assets / "concepts" / "moods.txt").write_bytes("\ufeffMoods\r\nglad\r\nsad\r\n".encode())
    moods = find_concept("moods")
    assert (moods.title, moods.words) == ("Moods", ("glad", "sad"))


def test_tokens_are_readable_and_nothing_is_escaped(model):
    tokenizer = model.tokenizer
    ids = tokenizer(" red<b>&é", add_special_tokens=False)["input_ids"]
    shown = token_texts(ids, tokenizer)
    assert shown[0] == " red"
    assert "<" in shown and "&" in shown
    assert all(text and "�" not in text for text in shown)
    labels = vocabulary_labels(model)
    assert len(labels) == len(model.unembedding)
    assert all(labels)
