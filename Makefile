# Every target is `python3 dev.py TARGET`; pass options with ARGS, e.g. make test ARGS="-k dedupe".
PYTHON ?= python3

help setup demo test check check-deploy chaos soak bench image bundle:
	@$(PYTHON) dev.py $@ $(ARGS)

.PHONY: help setup demo test check check-deploy chaos soak bench image bundle
.DEFAULT_GOAL := help
