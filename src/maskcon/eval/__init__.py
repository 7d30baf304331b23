"""What features are worth, by the protocols of the field.

`protocols.PROTOCOLS` is the table of them by name, as `maskcon eval --protocol` takes them, and
`protocols.judge` runs some of them on a `Subject`, an encoder with its images. What they are made
of are pure functions of features [N, F] of unit length and labels [N], which know no file and no
network. Results are plain dicts of floats, shares in [0, 1].

    recall       Recall@K among all images and inside the own coarse class; of raw pixels
    retrieval    nearest neighbours, exact, and the counting that Recall@K follows from
    precision    MAP@R and R-precision
    bootstrap    intervals of such means over queries
    knn          the weighted nearest-neighbour classifier, train -> test
    probe        linear classifiers on frozen features, with all labels or a share of them
    few_shot     episodes of a few classes, each with a few labelled images
    finetune     a whole encoder trained with a share of the labels
    cluster      k-means against the classes: NMI, ARI, accuracy
    estimate     how many clusters there are
    graph        the graph of neighbours, its spectrum and its divisions
    projection   where each row lies on a map, by t-SNE, UMAP or principal components
    soft_labels  the methods' soft labels beside those that fine classes would give
    diagnostics  coarse accuracy, effective rank, alignment, uniformity
    rows         what all of them ask of their rows
"""
