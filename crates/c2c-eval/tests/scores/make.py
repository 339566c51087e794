"""Writes scores.json and maths.json beside it: what other programs score, for the tests of ours.

    pip install rouge==1.0.1 fuzzywuzzy==0.18.0 jieba==0.42.1 math-verify==0.8.0
    python make.py

Texts are drawn from small vocabularies by a seeded generator, so that they share words and characters. F1 and the scorers of classes, paragraphs
and counts are computed here as LongBench describes them.
"""

import json
import random
import re
import string
import warnings
from collections import Counter
from pathlib import Path

import jieba
from fuzzywuzzy import fuzz
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from rouge import Rouge

warnings.filterwarnings("ignore")
jieba.setLogLevel(60)
HERE = Path(__file__).parent
RANDOM = random.Random(7)
ENGLISH = "the a an cat Dog runs. runs quickly, over U.S. hill-top it's 3.5 42 and . .. blue blue\n green".split(" ")
CHINESE = ["北京", "大学", "我们", "在", "清华大学", "学习", "，", "。", "人工智能", "3.5", "x-1", " ", "ABC", "的", "研究生命起源", "“好”"]
CODE = list("abcxyz=+(); \t") + ["return ", "self.", "for i in ", "x", "if "]
CLASSES = ["cat", "category", "dog", "hot dog", "food", "fo", "number"]


def english_words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


MARKS = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."


def chinese_words(text):
    cut = ("".join("".join(c for c in w.lower() if c not in string.punctuation + MARKS).split()) for w in jieba.cut(text))
    return [word for word in cut if word]


def f1(first, second):
    same = sum((Counter(first) & Counter(second)).values())
    if same == 0:
        return 0
    precision, recall = same / len(first), same / len(second)
    return 2 * precision * recall / (precision + recall)


def rouge(first, second):
    try:
        return Rouge().get_scores([first], [second], avg=True)["rouge-l"]["f"]
    except ValueError:
        return 0


def share(text, number):
    numbers = re.findall(r"\d+", text)
    return sum(n == number for n in numbers) / len(numbers) if numbers else 0


def draw(pieces, most, joint=""):
    return joint.join(RANDOM.choice(pieces) for _ in range(RANDOM.randint(0, most)))


def cases():
    for _ in range(120):
        first, second = draw(ENGLISH, 12, " "), draw(ENGLISH, 12, " ")
        yield "f1", first, second, f1(english_words(first), english_words(second))
        yield "rouge", first, second, rouge(first, second)
    for _ in range(80):
        first, second = draw(CHINESE, 12), draw(CHINESE, 12)
        yield "f1_zh", first, second, f1(chinese_words(first), chinese_words(second))
        yield "rouge_zh", first, second, rouge(" ".join(jieba.cut(first)), " ".join(jieba.cut(second)))
    for most in [1, 8, 30, 150]:
        for _ in range(30):
            first = draw(CODE, most)
            second = draw(CODE, most) if RANDOM.random() < 0.3 else first[: len(first) // 2] + draw(CODE, 6) + first[len(first) // 2 :]
            yield "code", first, second, fuzz.ratio(first, second) / 100
    for _ in range(40):
        text, right = f"Paragraph {RANDOM.randint(1, 4)} " + draw("1 2 3 no".split(" "), 3, " "), f"Paragraph {RANDOM.randint(1, 4)}"
        yield "paragraph", text, right, share(text, re.findall(r"Paragraph (\d+)", right)[0])
        yield "count", text, right[-1], share(text, right[-1])


def class_cases():
    for _ in range(60):
        text, right = draw(CLASSES, 3, " "), RANDOM.choice(CLASSES)
        named = [name for name in CLASSES if name in text]
        for name in named:
            if name in right and name != right:
                named.remove(name)
        yield "class", text, right, 1 / len(named) if right in named else 0


EQUAL = [
    ["1/2", "0.5", r"\frac{1}{2}", r"\frac12", r"\dfrac{1}{2}", r"\frac{2}{4}"],
    ["1,200", "1200", "1200.0"], ["-3", r"-\frac{6}{2}"], ["3", r"\log_2 8", "x=3"], [r"\sqrt{8}", r"2\sqrt{2}"], ["2.8284271"], [r"\pi"], ["50", r"50\%"],
    ["0.333333"], [r"\frac{1}{3}"], [r"\frac{-1}{2}", r"-\frac{1}{2}", "-0.5"], ["7", "7.0"], ["x+1", "1+x"], ["(x+1)^2", "x^2+2x+1"], [r"\frac{x}{2}", "x/2"],
    ["2x"], ["(3,4)", "(3, 4)"], ["(4,3)"], ["[3,4]"], [r"\{1,2\}", r"\{2,1\}"], [r"(-\infty,2)"], [r"(-\infty,2)\cup(3,\infty)"], ["5", "x=5"], [r"x \leq 5"],
    [r"3\pi", r"\pi \cdot 3"], ["3+4i", "4i+3"], ["2^{10}", "1024"], [r"1\frac{3}{4}", r"\frac{7}{4}", "1.75"], [r"\text{Evelyn}"], [r"90^\circ", "90"],
    [r"\frac{\pi}{2}", r"\pi/2"], ["6!", "720"], ["e^{2}", "e^2"], [r"\sqrt[3]{8}", "2"], [r"\sin(x)^2+\cos(x)^2", "1"],
]
PHRASES = ["Answer: {0}", "Answer: ${0}$", r"So \boxed{{{0}}}.", "First 12.\nAnswer: ${0}$", "The final answer is ${0}$.", "**Answer: {0}**", "It is {0}", "Answer: ${0}$ units"]


def pairs():
    for _ in range(400):
        group = RANDOM.choice(EQUAL)
        yield RANDOM.choice(RANDOM.choice([group, RANDOM.choice(EQUAL)])), RANDOM.choice(group)


def grade(output, right, number):
    extraction = [
        LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False),
        ExprExtractionConfig(),
    ]
    gold = parse(right if number else f"${right}$", [ExprExtractionConfig()] if number else [LatexExtractionConfig()], parsing_timeout=None)
    found = parse(output, extraction, extraction_mode="first_match", parsing_timeout=None)
    return bool(gold and found and verify(gold, found, timeout_seconds=None))


def maths_cases():
    for answer, right in pairs():
        phrase = RANDOM.choice(PHRASES)
        output = phrase.format(answer)
        yield {"output": output, "answer": answer, "right": right, "correct": grade(output, right, False)}


def write(name, made_with, rows):
    rows = list(rows)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (HERE / name).write_text(f'{{"made_with": {json.dumps(made_with)}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(name, len(rows))


write("scores.json", "rouge 1.0.1, fuzzywuzzy 0.18.0 without python-Levenshtein, jieba 0.42.1, Python 3.11", [*cases(), *class_cases()])
write("maths.json", "math-verify 0.8.0, sympy 1.14.0", maths_cases())
