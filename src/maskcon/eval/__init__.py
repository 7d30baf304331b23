"""What features are worth, by the protocols of the field.

Pure functions of features [N, F] of unit length and labels [N]; they know no file and no
network. Results are plain dicts of floats, shares in [0, 1].

    recall      Recall@K among all images and inside the own coarse class
    precision   MAP@R and R-precision
    bootstrap   intervals of such means over queries
    knn         the weighted nearest-neighbour classifier, train -> test
    probe       linear classifiers on frozen features, with all labels or a share of them
    cluster     k-means against the classes: NMI, ARI, accuracy
    estimate    how many clusters there are
    diagnostics      coarse accuracy, effective rank, alignment, uniformity
    rows        what all of them ask of their rows
"""
