"""Encodings of text files: found by their bytes, all of them, never by a sample."""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

_BLOCK_BYTES = 1 << 24
_FIRST_BYTES = 1 << 12

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""First bytes of a file that tell its encoding."""

COMMON_SYLLABLES = frozenset(
    "이다는의가에을를은고지기한하사리어자도로인서대해나들그시일스아정과수보라제전부만주장유여"
    "공요비성구조있와원상간모안계국신동물세치회경소관연문명용방위터트미체학화면개통선거분내행당"
    "결영업중진실발재생무우번발매출광캠페획득설날짜짝가입앱게임구글네버카카오광고매출액단말결과"
    "년월플랫폼운영채널소재집객월주차코호트총합계평균율자수량목표도시지역서울부산대구인천광주대전울산"
)
"""Syllables that make up most of Korean text, words of marketing among them."""

COMMON_HANZI = frozenset(
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学"
    "对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头"
    "面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向"
    "情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信"
    "北少关并内加化由却代军产入先山五太水万市活推广告渠道日期用户收入消费国家应用安装渠量投放费"
    "媒体名称计划单组春夏秋冬节促销品牌总计合"
)
"""Characters that make up most of Chinese text, words of marketing among them."""

_WESTERN_SIGNS = "€£°§–—‘’“”…\xa0"

_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
_CLEARLY_MORE = 2.0  # times as many common characters as in the other reading


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, or what a .gz file holds, to read its bytes."""
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def detect_encoding(path: Path) -> str:
    """Detect the encoding of a text file by reading it to its end.

    One of utf-8, utf-8-sig (with a mark of byte order), utf-16, utf-16-le, utf-16-be, cp949
    (Korean), gbk (Chinese) and cp1252 (Western). Raises ValueError for other bytes, for those that
    are Korean as well as Chinese, and for a damaged gzip file.
    """
    try:
        with open_bytes(path) as file:
            first_bytes = file.read(_FIRST_BYTES)
        for mark, encoding in BYTE_ORDER_MARKS.items():
            if first_bytes.startswith(mark):
                return encoding
        if b"\0" in first_bytes:  # half of a separator or of the end of a line
            low_byte_first = first_bytes[1::2].count(0) > first_bytes[::2].count(0)
            return "utf-16-le" if low_byte_first else "utf-16-be"
        if _decodes(path, "utf-8"):
            return "utf-8"
        return _detect_legacy_encoding(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        remedy = "copy or export the file again"
        raise ValueError(f"{path}: the gzip file is cut off or damaged; {remedy}") from error


def _decodes(path: Path, encoding: str) -> bool:
    """Return whether all bytes of a file are text in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in _blocks(path):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _blocks(path: Path) -> Iterator[bytes]:
    """Read a file block by block."""
    with open_bytes(path) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _detect_legacy_encoding(path: Path) -> str:
    """Tell Western, Korean and Chinese text apart by what their bytes say in each."""
    words = {word for block in _blocks(path) for word in _HIGH_BYTES.findall(block)}
    single_bytes = sum(len(word) % 2 for word in words)
    if 2 * single_bytes > len(words) and _decodes(path, "cp1252"):
        return "cp1252"  # letters with accents stand alone; Korean and Chinese ones are pairs

    korean = _share_of_common(words, "cp949", COMMON_SYLLABLES) if _decodes(path, "cp949") else 0.0
    chinese = _share_of_common(words, "gbk", COMMON_HANZI) if _decodes(path, "gbk") else 0.0
    if korean > _CLEARLY_MORE * chinese:
        return "cp949"
    if chinese > _CLEARLY_MORE * korean:
        return "gbk"
    if korean or chinese:
        raise ValueError(
            f"{path}: its text can be read as Korean (cp949) or as Chinese (GBK); save it as "
            "'CSV UTF-8', or set data.format.encoding=cp949 or gbk"
        )
    if _decodes(path, "cp1252") and all(map(_is_western, words)):
        return "cp1252"
    raise ValueError(
        f"{path}: expected text in UTF-8, UTF-16, cp949 (EUC-KR), GBK or Latin-1, got none of "
        "them; save it as 'CSV UTF-8'"
    )


def _is_western(word: bytes) -> bool:
    """Return whether bytes are letters with accents, or signs of Western text."""
    text = word.decode("cp1252", "ignore")
    return all(character.isalpha() or character in _WESTERN_SIGNS for character in text)


def _share_of_common(words: set[bytes], encoding: str, common: frozenset[str]) -> float:
    """Share of the distinct characters of some words that are common in a language."""
    characters = set("".join(word.decode(encoding, "ignore") for word in words))
    letters = [character for character in characters if character.isalpha()]
    if not letters:
        return 0.0
    return sum(character in common for character in letters) / len(letters)
