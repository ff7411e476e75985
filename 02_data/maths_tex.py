def inline_maths(page): return page
