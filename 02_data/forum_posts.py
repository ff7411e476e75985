"""Forums, and questions with their answers: there the page is made of posts, and all of them count.

On a news page what readers wrote below the story is left out; on a forum it is the story. Such
pages tell what they are, by schema.org's names or by those of the old forum programs. Then the
posts are kept, and profiles, votes, signatures and buttons between them go.
"""

import re

from html_tree import Node, Run
from main_text import weigh
from unwanted import evidence

# Pages that are made of posts, and the text of a post, in schema.org's words ...
FORUM = re.compile(r"schema\.org/(?:DiscussionForumPosting|QAPage|Question)\b")
POST = re.compile(r"itemprop\s*=\s*[\"']?(?:text|articleBody)\b", re.I)
# ... and what the forum programs call it: vBulletin, phpBB 3, SMF and MyBB, XenForo, FluxBB,
# Invision 4 and 2. phpBB 2 and 3.0 call it "postbody".
# Then: Vanilla, Discourse, Steam, Stack Exchange, Flarum, NodeBB, Discuz, Khoros, vBulletin 5,
# bbPress, Question2Answer, XenForo 1, Hacker News and old Reddit, Lobsters,
# Bugzilla.
WORDS = ("bbWrapper", "postmsg", "postcolor", "userContent", "cooked", "forum_op",
         "commentthread_comment_text", "js-post-body", "Post-body", "lia-message-body-content",
         "js-post__content-text", "bbp-topic-content", "bbp-reply-content", "qa-q-view-content",
         "qa-a-item-content", "messageText", "commtext", "usertext-body", "toptext", "story_text",
         "comment_text", "bz_comment_text")
IDS = ("post_message_", "post_content", "postmessage_", "msg_", "pid_")
OLD_POST = re.compile(rf"\bid\s*=\s*[\"']?(?:{'|'.join(IDS)})\d+(?![\w-])|"
                      r"\bdata-role=.commentContent\b|\bcomponent=.post/content\b|"
                      rf"(?<![\w-])(?:{'|'.join(WORDS)})(?![\w-])")
OLDEST_POST = re.compile(r"\bpostbody\b")
# A page without one of these words has no posts.
TELLING = (*IDS, *WORDS, "postbody", "commentContent", "post/content", "schema.org/Discuss",
           "schema.org/QA", "schema.org/Quest")


def posts_of(nodes: list[Node]) -> set[Node]:
    """The blocks with the text of a post; none on a page that does not say that it is a forum."""
    said = " ".join([n.attributes for n in nodes])
    if not any(word in said for word in TELLING):
        return set()
    posts = {n for n in nodes if n.attributes and OLD_POST.search(n.attributes)
             and "ignature" not in n.attributes}
    oldest = {n for n in nodes if OLDEST_POST.search(n.attributes)} if not posts else set()
    # phpBB 3: the text without its heading ("Re: ..."), its buttons and the line "Post by ..."
    around = posts or oldest
    texts = {n for n in nodes if n.parent in around and n.attribute("class") == "content"}
    posts |= {n for n in oldest if n.tag == "span"}
    posts = posts - {n.parent for n in texts} | texts
    told = any("schema.org/" in n.attributes and FORUM.search(n.attributes) for n in nodes)
    return posts or {n for n in nodes if told and POST.search(n.attributes)}


def keep_posts(root: Node, nodes: list[Node]) -> bool:
    """On a page that says it is a forum, or a question with answers: drop all but the posts. False
    if it is none, or if its posts hold less than half of the text.

    There what other pages call comments is the text.
    """
    inside = posts_of(nodes)
    if len(inside) < 2:
        return False
    for node in nodes:
        node.dropped = False
    weigh(nodes)
    if 2 * sum(post.size for post in inside) < root.mass:
        return False
    # Keep a block that holds a post (children come first backwards), is one, or lies in one.
    holding = {root} | inside
    for node in reversed(nodes):
        if node in holding and node.parent is not None:
            holding.add(node.parent)
    for node in nodes:
        if node in holding and node.tag == "li":
            node.tag = "div"             # a list of posts is no list of points
        if node.parent in inside:
            inside.add(node)
            node.dropped = evidence(node) is not None
        elif node not in inside:
            node.dropped = node not in holding
            for child in node.children:
                if type(child) is Run:
                    child.mass = -1
    return True
