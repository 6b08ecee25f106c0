"""The tokenizer of the small world: one token a word, sub-words and bytes for any other text.

Text is split as GPT-2 splits it and written in byte characters (a leading space is part of the
word); a Unigram model then prefers one long piece to several short ones. Every string comes back
exactly as it went in.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from toyworld.documents import SYLLABLES, training_documents
from toyworld.words import CONCEPTS

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CONTEXT = 512
SCAN_DOCUMENTS = 20_000
MIN_COUNT = 15  # a rarer piece stays in sub-words: its row of the embedding would hardly be trained
WORD_SCORE, SYLLABLE_SCORE, BYTE_SCORE = -1.0, -8.0, -10.0


def word_tokens(
    tokenizer: PreTrainedTokenizerFast, concepts: Mapping[str, Sequence[str]]
) -> dict[str, list[int]]:
    """Concept -> the token ids of its words, as they stand inside a sentence."""
    return {
        concept: [tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in words]
        for concept, words in concepts.items()
    }


def frequent_pieces(texts: Iterable[str], concept_words: Iterable[str]) -> list[str]:
    """The texts' words as the splitter writes them, most frequent first, then the concepts'."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in split.pre_tokenize_str(text))
    found = [
        piece for piece, count in counts.most_common() if count >= MIN_COUNT and len(piece) > 1
    ]
    always = [split.pre_tokenize_str(f" {word}")[0][0] for word in concept_words]
    return list(dict.fromkeys([*found, *always]))


def world_pieces() -> list[str]:
    """All words of the world of stories."""
    documents = itertools.islice(training_documents(seed=0), SCAN_DOCUMENTS)
    words = (word for words in CONCEPTS.values() for word in words)
    return frequent_pieces(("".join(part.text for part in d) for d in documents), words)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The finished tokenizer of the world of stories; the same on every call."""
    return assemble_tokenizer(world_pieces(), SYLLABLES)


def assemble_tokenizer(
    pieces: Sequence[str], syllables: Sequence[str] = (), image_token: str | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each piece; `image_token`: a further special one."""
    image = () if image_token is None else (image_token,)
    vocab: dict[str, float] = dict.fromkeys((PAD, BOS, EOS, *image), 0.0)
    for piece in pieces:
        vocab[piece] = WORD_SCORE
    for piece in syllables:
        vocab.setdefault(piece, SYLLABLE_SCORE)
    for piece in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab.setdefault(piece, BYTE_SCORE)
    tokenizer = Tokenizer(models.Unigram(list(vocab.items()), unk_id=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([PAD, BOS, EOS, *image])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={} if image_token is None else {"image_token": image_token},
    )
