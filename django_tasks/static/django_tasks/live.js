/* Pages of tasks that still run: parts marked with data-live are read again, until the page no longer has them so marked.
   Nothing of it is needed: without scripts, people reload the page. */
"use strict";
{
    const LEAST = 2000;
    const MOST = 30000;
    let wait = LEAST;

    const parts = () => Array.from(document.querySelectorAll("[data-live][id]"));
    // A choice that somebody is making, or a text that is marked, is not taken away.
    const busy = part => part.querySelector("input:checked") !== null || (!getSelection().isCollapsed && part.contains(getSelection().anchorNode));

    // The token of a form is another one each time.
    const bare = part => part.outerHTML.replace(/(name="csrfmiddlewaretoken" value=)"[^"]*"/g, "$1");

    function put(part, fresh) {
        const href = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        const held = part.contains(document.activeElement) ? document.activeElement.id : "";
        const scrolled = Array.from(part.querySelectorAll(".dt-canvas"), canvas => [canvas.scrollLeft, canvas.scrollTop]);
        part.replaceWith(fresh);
        fresh.querySelectorAll(".dt-canvas").forEach((canvas, index) => canvas.scrollTo(...(scrolled[index] || [0, 0])));
        const again = held ? document.getElementById(held) : href && Array.from(fresh.querySelectorAll("a")).find(one => one.getAttribute("href") === href);
        if (again) {
            again.focus({preventScroll: true});
        }
    }

    async function look() {
        let changed = false;
        try {
            const answer = await fetch(location.href, {credentials: "same-origin"});
            if (!answer.ok || answer.redirected) {
                return;
            }
            const page = new DOMParser().parseFromString(await answer.text(), "text/html");
            for (const part of parts().filter(part => !busy(part))) {
                const fresh = page.getElementById(part.id);
                if (fresh === null) {
                    // What was to be watched is over, and the page looks different.
                    location.reload();
                    return;
                }
                if (bare(fresh) !== bare(part)) {
                    changed = true;
                    put(part, document.importNode(fresh, true));
                }
            }
        } catch (error) {
            // The site is away for a moment: the next look may find it.
            console.debug(error);
        }
        wait = changed ? LEAST : Math.min(MOST, wait * 1.5);
        plan();
    }

    function plan() {
        if (parts().length) {
            setTimeout(() => document.hidden ? plan() : look(), wait);
        }
    }

    document.addEventListener("DOMContentLoaded", plan);
}
