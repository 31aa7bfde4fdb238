"""All functions of the app, one blueprint per room."""

import azure.functions as func

import backups.triggers
import console.operator_triggers
import console.story_triggers
import console.triggers
import console.verb_triggers
import console.web
import geo_router.triggers
import geo_router.web
import provisioning.triggers
import provisioning.watching
from spaces import exporting, telemetry

telemetry.set_up_logging_as_asked()
exporting.set_up_as_asked()

app = func.FunctionApp()
app.register_functions(provisioning.triggers.blueprint)
app.register_functions(provisioning.watching.blueprint)
app.register_functions(backups.triggers.blueprint)
app.register_functions(geo_router.triggers.blueprint)
app.register_functions(geo_router.web.blueprint)
app.register_functions(console.triggers.blueprint)
app.register_functions(console.story_triggers.blueprint)
app.register_functions(console.verb_triggers.blueprint)
app.register_functions(console.operator_triggers.blueprint)
app.register_functions(console.web.blueprint)
