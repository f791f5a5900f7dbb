/* The list of congestion controllers. */
#include "recovery/cc.h"

#include <string.h>

static const struct cc_ops *const all[] = { &cc_newreno };

const struct cc_ops *cc_ops_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	return NULL;
}
