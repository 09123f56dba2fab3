"""Find stems that are not what their names say. The commands are `audit.command` and `audit.clean`.

stems          find the stems of tracks
stem_score     the record of a stem: its row in the table, on the page and in the printout
windows        measure the outputs of a model for a single stem, window by window
values         compute a stem's values from its windows: own share, self-SDR, contrast, foreign levels
baseline       the values that are normal for an instrument, and scores relative to them
alignment      make the values of several networks comparable
scoring        compute scores from values
from_training  compute scores from the chunks that trainings masked
marks          read and write the table with a person's marks
measuring      measure many stems, with a journal
bleeding       estimate the level of every instrument in the stems of the others; bleeding_table writes the table
same_audio     find copies of a song
folds          divide tracks into folds
begun          remember what a cleaning was begun with, and refuse changes
trainings      run the ordinary training in a process of its own
cost           say what trainings cost before they begin
crossfit       train the networks of the folds, and let each judge the tracks it has not heard
planning       make the plan of a cross-fitted audit from options
changes        compare the rounds of a cleaning
page_markup    the HTML of the page
page           write the page of the worst stems
cross_audit    `audit --folds`
cleaning       `clean`
"""

from my_submission.src.common.errors import UserError


class AuditError(UserError):
    """A dataset, a model or a training's table that cannot be audited."""
