"""`audit --folds`: train a network for each fold of the tracks, and let each judge the tracks it has never heard."""

from __future__ import annotations

import argparse

from my_submission.src import report
from my_submission.src.audit import AuditError, page
from my_submission.src.audit.begun import begin, refuse_changes
from my_submission.src.audit.bleeding_table import write_bleeding
from my_submission.src.audit.crossfit import Plan, Stopped, audit_round
from my_submission.src.audit.marks import Marks, marks_of, write_table
from my_submission.src.audit.planning import announce, make_plan, settings, write_plan
from my_submission.src.audit.printout import print_scores
from my_submission.src.common.text import shown


def audit_folds(options: argparse.Namespace, marks: Marks) -> int:
    """Run the audit; return its exit status."""
    folder = options.model_path
    plan = make_plan(options, options.data_path, folder, options.seeds or [0])
    marks = marks_of(list(plan.stems), marks, options.out)
    if options.report:
        report.check_path(options.report, options.embed, apart_from=options.data_path)
    facts = settings(plan, options)
    refuse_changes(folder, facts, plan.tracks)
    print(f"{', '.join(shown(path) for path in options.data_path)} -> {shown(options.out)}")
    announce(plan, plan.trainings(folder, "audit"), 1, options)
    if options.dry_run:
        return 0
    with begin(folder, facts, plan.tracks):
        write_plan(folder, plan)
        try:
            _audit(options, plan, marks)
        except Stopped as stop:
            return stop.status
    return 0


def _audit(options: argparse.Namespace, plan: Plan, marks: Marks) -> None:
    """Audit, write the table and the page. Raises Stopped after a signal."""
    found = audit_round(options.model_path, plan, None, "audit")
    print_scores(found.scores, "silent throughout, no score", found.baselines)
    scores = write_table(options.out, found.scores, marks)
    if options.bleeding:
        order = sorted(plan.stems.values(), key=lambda stem: plan.fold_of[stem.track])  # so that each network is opened once
        failed = write_bleeding(options.bleeding, order, plan.recipe.source_order, found.separator_of, found.settings)
        if failed:
            raise AuditError(f"{len(failed)} tracks have no levels of bleeding: {'; '.join(map(': '.join, failed.items()))}")
    if options.report:
        facts = {"the table": options.out, "config": options.config, "folds": plan.folds, "networks": options.model_path}
        audited = page.Audited(
            data=plan.data,
            stems=plan.stems,
            scores=scores,
            baselines=found.baselines,
            table=options.out,
            facts=facts,
            failed={},
        )
        page.write_page(options.report, audited, options.suspects, found.separator_of, options.embed)
        print(f"report: {shown(options.report)}", flush=True)
