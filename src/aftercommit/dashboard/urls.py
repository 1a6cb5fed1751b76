"""Addresses of the dashboard: ``path("jobs/", include("aftercommit.dashboard.urls"))``."""

from django.urls import path

from aftercommit.dashboard.views import (
    audit,
    bulk,
    groups,
    home,
    job,
    jobs,
    messages,
    overview,
    queues,
    races,
    schedules,
    scheduling,
    tasks,
    workers,
)

app_name = "aftercommit_dashboard"

urlpatterns = [
    path("", home.home, name="home"),
    path("<str:using>/", overview.overview, name="overview"),
    path("<str:using>/find/", home.find, name="find"),
    path("<str:using>/jobs/", jobs.jobs, name="jobs"),
    path("<str:using>/jobs/act/", bulk.act, name="act"),
    path("<str:using>/jobs/bulk/<int:number>/", bulk.progress, name="bulk"),
    path("<str:using>/jobs/<uuid:job_id>/", job.job, name="job"),
    path("<str:using>/jobs/<uuid:job_id>/act/", job.act, name="job-act"),
    path("<str:using>/jobs/<uuid:job_id>/copy/", job.copy, name="job-copy"),
    path("<str:using>/jobs/<uuid:job_id>/graph/", groups.graph, name="graph"),
    path("<str:using>/tasks/", tasks.show, name="tasks"),
    path("<str:using>/queues/", queues.show, name="queues"),
    path("<str:using>/queues/act/", queues.act, name="queue-act"),
    path("<str:using>/schedules/", schedules.show, name="schedules"),
    path("<str:using>/schedules/new/", scheduling.new, name="schedule-new"),
    path("<str:using>/schedules/edit/", scheduling.edit, name="schedule-edit"),
    path("<str:using>/schedules/act/", schedules.act, name="schedule-act"),
    path("<str:using>/groups/", groups.show, name="groups"),
    path("<str:using>/groups/<uuid:group_id>/", groups.group, name="group"),
    path("<str:using>/groups/<uuid:group_id>/act/", groups.act, name="group-act"),
    path("<str:using>/workers/", workers.show, name="workers"),
    path("<str:using>/messages/", messages.show, name="messages"),
    path("<str:using>/races/", races.show, name="races"),
    path("<str:using>/audit/", audit.show, name="audit"),
]
