variable "local_existing_package" {
  description = "Path of the zip to deploy. It holds one executable, \"bootstrap\"."
  type        = string
  nullable    = false

  validation {
    condition     = endswith(var.local_existing_package, ".zip")
    error_message = "local_existing_package must be the path of a .zip file."
  }
}

variable "ecs_cluster_name" {
  description = "Name (not ARN) of the ECS cluster, in the provider's account and region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,255}$", var.ecs_cluster_name))
    error_message = "ecs_cluster_name must be a name of letters, digits, - and _, not an ARN."
  }
}

variable "ecs_service_name" {
  description = "Name (not ARN) of the ECS service whose desired count is set."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,255}$", var.ecs_service_name))
    error_message = "ecs_service_name must be a name of letters, digits, - and _, not an ARN."
  }
}

variable "queue_arn" {
  description = "ARN of the SQS queue that the service works off. A queue of another account must allow sqs:GetQueueAttributes to the function's role."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:sqs:[a-z0-9-]+:[0-9]{12}:[a-zA-Z0-9_-]{1,80}(\\.fifo)?$", var.queue_arn))
    error_message = "queue_arn must be the ARN of an SQS queue (arn:aws:sqs:REGION:ACCOUNT:NAME)."
  }
}

variable "min_tasks" {
  description = "Lowest desired count."
  type        = number
  nullable    = false

  validation {
    condition     = 0 <= var.min_tasks && var.min_tasks <= 5000 && floor(var.min_tasks) == var.min_tasks
    error_message = "min_tasks must be a whole number from 0 to 5000."
  }
}

variable "max_tasks" {
  description = "Highest desired count."
  type        = number
  nullable    = false

  validation {
    condition     = 0 <= var.max_tasks && var.max_tasks <= 5000 && floor(var.max_tasks) == var.max_tasks
    error_message = "max_tasks must be a whole number from 0 to 5000."
  }
}

variable "hard_min_tasks" {
  description = "Lowest count that any event may ask for. Null means min_tasks, so that an event can only narrow the bounds."
  type        = number
  default     = null

  validation {
    condition     = var.hard_min_tasks == null ? true : 0 <= var.hard_min_tasks && floor(var.hard_min_tasks) == var.hard_min_tasks
    error_message = "hard_min_tasks must be a whole number of 0 or more, or null."
  }
}

variable "hard_max_tasks" {
  description = "Highest count that any event may ask for. Null means max_tasks, so that an event can only narrow the bounds."
  type        = number
  default     = null

  validation {
    condition     = var.hard_max_tasks == null ? true : 0 <= var.hard_max_tasks && floor(var.hard_max_tasks) == var.hard_max_tasks
    error_message = "hard_max_tasks must be a whole number of 0 or more, or null."
  }
}

variable "dry_run" {
  description = "True decides and logs but changes nothing. Apply again with false to arm it."
  type        = bool
  default     = true
  nullable    = false
}

variable "scale_up_threshold" {
  description = "Scale out when more messages than this wait."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = 0 <= var.scale_up_threshold
    error_message = "scale_up_threshold must be 0 or more."
  }
}

variable "scale_down_threshold" {
  description = "Scale in when fewer messages than this wait. Not above scale_up_threshold."
  type        = number
  default     = 99
  nullable    = false

  validation {
    condition     = 0 <= var.scale_down_threshold
    error_message = "scale_down_threshold must be 0 or more."
  }
}

variable "tasks_per_message" {
  description = "Tasks to add for each waiting message (0.01 is one task for 100 messages)."
  type        = number
  default     = 0.01
  nullable    = false

  validation {
    condition     = 0 < var.tasks_per_message
    error_message = "tasks_per_message must be above 0."
  }
}

variable "max_scale_down_factor" {
  description = "Fraction of the tasks that must remain after one scale-in (0.99 removes about 1 % at a time)."
  type        = number
  default     = 0.99
  nullable    = false

  validation {
    condition     = 0 <= var.max_scale_down_factor && var.max_scale_down_factor <= 1
    error_message = "max_scale_down_factor must be from 0 to 1."
  }
}

variable "scale_out_cooldown" {
  description = "Seconds of quiet after a scale-out."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = 0 <= var.scale_out_cooldown && floor(var.scale_out_cooldown) == var.scale_out_cooldown
    error_message = "scale_out_cooldown must be a whole number of seconds, 0 or more."
  }
}

variable "scale_in_cooldown" {
  description = "Seconds of quiet after a scale-in."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = 0 <= var.scale_in_cooldown && floor(var.scale_in_cooldown) == var.scale_in_cooldown
    error_message = "scale_in_cooldown must be a whole number of seconds, 0 or more."
  }
}

variable "scaling_step_count" {
  description = "A scale-out of at least this many tasks does not wait for the scale-out cooldown."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = 1 <= var.scaling_step_count && floor(var.scaling_step_count) == var.scaling_step_count
    error_message = "scaling_step_count must be a whole number of 1 or more."
  }
}

variable "use_combined_messages" {
  description = "True counts messages in flight as well as messages waiting."
  type        = bool
  default     = false
  nullable    = false
}

variable "function_name" {
  description = "Name of the function, its schedule, its log group, its dead-letter queue and its alarms. One per account and region."
  type        = string
  default     = "tidegate"
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,48}$", var.function_name))
    error_message = "function_name must be 1 to 48 letters, digits, - and _."
  }
}

variable "architectures" {
  description = "Processor, as a list of one. Must be the one that the package was built for."
  type        = list(string)
  default     = ["arm64"]
  nullable    = false

  validation {
    condition     = length(var.architectures) == 1 && alltrue([for name in var.architectures : contains(["arm64", "x86_64"], name)])
    error_message = "architectures must be [\"arm64\"] or [\"x86_64\"]."
  }
}

variable "memory_size" {
  description = "Memory of the function in MB. Processor time comes in proportion."
  type        = number
  default     = 128
  nullable    = false

  validation {
    condition     = 128 <= var.memory_size && var.memory_size <= 10240
    error_message = "memory_size must be from 128 to 10240."
  }
}

variable "timeout" {
  description = "Seconds that a tick may take. Shorter than the period, so that a slow tick ends before the next begins."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = 5 <= var.timeout && var.timeout < 60
    error_message = "timeout must be from 5 to 59, below the period of one minute."
  }
}

variable "environment_variables" {
  description = "Further environment variables of the function. They win over those that this module sets."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "reserved_concurrent_executions" {
  description = "1 lets one tick run at a time. -1 reserves nothing (an account must keep 100 unreserved). 0 stops the function at once."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([-1, 0, 1], var.reserved_concurrent_executions)
    error_message = "reserved_concurrent_executions must be -1, 0 or 1: two ticks at once only wait for each other."
  }
}

variable "schedule_state" {
  description = "DISABLED pauses the ticks. The silence alarm then rings, so that nobody forgets."
  type        = string
  default     = "ENABLED"
  nullable    = false

  validation {
    condition     = contains(["ENABLED", "DISABLED"], var.schedule_state)
    error_message = "schedule_state must be ENABLED or DISABLED."
  }
}

variable "role_permissions_boundary" {
  description = "ARN of a permissions boundary for both roles."
  type        = string
  default     = null
}

variable "log_level" {
  description = "Least severe line that is logged. Decisions are INFO."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"], var.log_level)
    error_message = "log_level must be TRACE, DEBUG, INFO, WARN or ERROR."
  }
}

variable "cloudwatch_logs_retention_in_days" {
  description = "Days to keep the log. A year of decisions is about 1 GB, a few cents a month."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.cloudwatch_logs_retention_in_days)
    error_message = "cloudwatch_logs_retention_in_days must be a number of days that CloudWatch Logs knows (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, ...)."
  }
}

variable "alarm_topic_arn" {
  description = "ARN of an SNS topic that hears the alarms. Null leaves them silent."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_topic_arn == null ? true : can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[a-zA-Z0-9_-]{1,256}$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn must be the ARN of a standard SNS topic, or null."
  }
}

variable "state_bucket_force_destroy" {
  description = "True lets terraform destroy delete the state bucket although it is not empty."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags for everything that can carry tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
