"""One HTML page about a run, which needs nothing but itself.

album       the judged pictures with features, labels and names
figures     recall, precision, diagnostics
findings    best and worst queries, classes that are confused
near_duplicates       pictures that may be the same
places      where each picture lies on the map
sprites     small pictures, many in one
drawing     curves and bars as SVG
sections    the parts of the page as HTML
build       all of it as one page
page.html, page.css, parts.js, map.js, page.js    the page's frame, looks and behaviour
"""
