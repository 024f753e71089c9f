"""Check the README and docs/: every link leads somewhere, every command exists: `make docs`.

Checked are relative links and their anchors, pictures, `make` targets and `eva` sub-commands with
their options in code. Links to other sites are left alone.
"""

from collections.abc import Iterator
from pathlib import Path
import re
import shlex
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[1]
EVA = Path(sys.executable).parent / 'eva'
LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s]+)[^)]*\)')
CODE = re.compile(r'```.*?```|`[^`\n]+`', re.DOTALL)
TARGET = re.compile(r'^([a-z][\w-]*):', re.MULTILINE)
EXTERNAL = ('http://', 'https://', 'mailto:')


def pages() -> list[Path]:
    """Return the pages that ship with the sources."""
    return sorted(
        [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *ROOT.glob('models/**/*.md')]
    )


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the common forges make them."""
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    headings = re.findall(r'^#+ +(.*)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Yield a sentence for every relative link that leads nowhere."""
    text = CODE.sub('', page.read_text(encoding='utf-8'))
    for link in LINK.findall(text):
        if link.startswith(EXTERNAL):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f'{link} does not exist'
        elif anchor and target.suffix == '.md' and anchor not in anchors(target):
            yield f'{link}: {target.name} has no such heading'


def commands(page: Path) -> Iterator[str]:
    """Yield every line of code on a page, continued lines joined."""
    for code in CODE.findall(page.read_text(encoding='utf-8')):
        body = code.strip('`').partition('\n')[2] if code.startswith('```') else code.strip('`')
        for line in re.sub(r'\\\n\s*', ' ', body).splitlines():
            yield line.strip().removeprefix('$ ').partition(' #')[0]


def wrong_commands(page: Path) -> Iterator[str]:
    """Yield a sentence for every make target, eva sub-command or option that does not exist."""
    targets = set(TARGET.findall((ROOT / 'Makefile').read_text(encoding='utf-8')))
    for line in commands(page):
        words = split(line)
        if len(words) > 1 and words[0] == 'make':
            names = [word for word in words[1:] if '=' not in word and not word.startswith('-')]
            yield from (f'`make {name}` does not exist' for name in names if name not in targets)
        elif len(words) > 1 and words[0] in ('eva', '.venv/bin/eva'):
            yield from _wrong_eva(words[1:])


def split(line: str) -> list[str]:
    """Return the words of a line of code, by the shell's rules where it keeps them."""
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _wrong_eva(words: list[str]) -> Iterator[str]:
    path = []
    for word in words:
        if not re.fullmatch(r'[a-z][a-z-]*', word) or not _help([*path, word]):
            break
        path.append(word)
    text = _help(path)
    if not path and re.fullmatch(r'[a-z][a-z-]*', words[0]):
        yield f'`eva {words[0]}` does not exist'
        return
    for word in words:
        option = word.strip('[]').partition('=')[0]
        if option.startswith('--') and not re.search(rf'{option}\b', text):
            yield f'`eva {" ".join(path)}` has no option {option}'


_HELP: dict[tuple[str, ...], str] = {}


def _help(path: list[str]) -> str:
    key = tuple(path)
    if key not in _HELP:
        result = subprocess.run([EVA, *path, '--help'], capture_output=True, text=True)
        usage = result.stdout.startswith('usage: ' + ' '.join(['eva', *path]))
        _HELP[key] = result.stdout if result.returncode == 0 and usage else ''
    return _HELP[key]


def main() -> int:
    """Print what is wrong with each page; return 1 if anything is."""
    findings = 0
    for page in pages():
        for sentence in [*broken_links(page), *wrong_commands(page)]:
            print(f'{page.relative_to(ROOT)}: {sentence}')
            findings += 1
    print(f'{len(pages())} pages, {findings} findings', file=sys.stderr)
    return int(findings > 0)


if __name__ == '__main__':
    sys.exit(main())
