/* The handlers of the operations, by the file that has them. */
#ifndef ORIGIN_API_H
#define ORIGIN_API_H

#include "tests/origin/call.h"

/* prompts.c */
handler op_get_prompt, op_list_versions, op_get_prompt_version, op_search_prompts, op_list_prompts;
handler op_get_model_prompt, op_batch_get, op_create_prompt, op_update_prompt, op_delete_prompt, op_delete_version;
handler op_render, op_compatibility;
/* generic.c */
handler op_health, op_bytes, op_chunked, op_sse, op_echo, op_status, op_delay, op_upload, op_ws, op_cacheable;
/* control.c */
handler op_control_get, op_control_set, op_control_reset;

#endif
