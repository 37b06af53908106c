"""Links and images that suit a repository more than a site.

A link to a folder leads to its README if that is a page, and is plain text otherwise. A link whose
text is the name of a page's file, such as `training.md`, is shown with the title of the page.
Images of other hosts, such as badges, are left out: the site loads nothing from the web.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class PageLinks(SphinxPostTransform):
    """Links to folders and by file names, before MyST-Parser resolves them."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Replace the links of one page."""
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link["reftype"] != "myst":
                continue
            if link.get("refdomain") == "doc":
                self._give_title(link)
                continue
            relative, _ = self.env.relfn2path(link["reftarget"], link["refdoc"])
            if not self.env.srcdir.joinpath(relative).is_dir():
                continue
            readme = f"{relative.strip('/')}/README"
            if readme in self.env.all_docs:
                link.update(refdomain="doc", reftarget=readme, reftargetid=None)
            else:
                link.replace_self(link.children or [nodes.literal(text=relative)])

    def _give_title(self, link: addnodes.pending_xref) -> None:
        page, text = link["reftarget"], link.astext()
        if page in self.env.titles and f"/{page}.md".endswith(f"/{text}"):
            title = self.env.titles[page].astext()
            link[:] = [nodes.inline(text=title, classes=["doc"])]


class RemoteImages(SphinxTransform):
    """Leave out images of other hosts, with the links and paragraphs that hold nothing else."""

    default_priority = 10

    def apply(self, **kwargs: Any) -> None:
        """Remove the images of one page."""
        for image in list(self.document.findall(nodes.image)):
            if "://" in image["uri"]:
                _remove(image)


def _remove(node: nodes.Node) -> None:
    """Remove a node, and each link or paragraph that holds nothing else."""
    parent = node.parent
    parent.remove(node)
    is_empty = not parent.astext().strip() and not any(parent.findall(nodes.image))
    if isinstance(parent, nodes.TextElement) and is_empty:
        _remove(parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_post_transform(PageLinks)
    app.add_transform(RemoteImages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
