variable "region" {
  description = "Region of the queue and the service."
  type        = string
  default     = "us-east-1"
}

variable "package" {
  description = "Path of the zip with the executable \"bootstrap\"."
  type        = string
}

variable "architecture" {
  description = "Processor that the package was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"
}

variable "queue_name" {
  description = "Name of the SQS queue that the service works off."
  type        = string
}

variable "ecs_cluster_name" {
  description = "Name of the ECS cluster."
  type        = string
}

variable "ecs_service_name" {
  description = "Name of the ECS service."
  type        = string
}

variable "min_tasks" {
  description = "Lowest desired count."
  type        = number
  default     = 1
}

variable "max_tasks" {
  description = "Highest desired count."
  type        = number
  default     = 10
}

variable "dry_run" {
  description = "True decides and logs but changes nothing. Apply again with false to arm it."
  type        = bool
  default     = true
}

variable "environment_variables" {
  description = "Further environment variables of the function."
  type        = map(string)
  default     = {}
}

variable "state_bucket_force_destroy" {
  description = "True lets terraform destroy delete the state bucket although it is not empty."
  type        = bool
  default     = false
}
